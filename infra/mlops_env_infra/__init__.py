"""The Pulumi program of mlops-env. Kept empty: only `ec2` needs pulumi, which takes a second to import."""
