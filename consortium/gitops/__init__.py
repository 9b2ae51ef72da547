"""Running an institution from a git repository: pipelines, policy checks, and what is said to GitHub or GitLab."""
