"""A server as a child process: started, watched and ended with everything it started."""
