"""Virtual sites, device servers, utility and clock: a whole fleet to try before owning one."""
