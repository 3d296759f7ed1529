"""Root ceremonies: requests, responses, signing and the transcript, on both sides of the air gap."""
