"""LMDeploy: over HTTP (`client`), as a child process (`server`), and in process (`pipeline`)."""
