"""LMDeploy: over HTTP (`client`), as a child process (`server`), in this process (`pipeline`)."""
