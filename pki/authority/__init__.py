"""Issue certificates, CRLs and bundles: one module for each subject, with the reasons why it is out of date."""
