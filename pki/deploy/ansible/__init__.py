"""Delivery through Ansible: one run of a playbook for a whole fleet."""
