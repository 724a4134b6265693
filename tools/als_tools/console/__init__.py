"""`als console`: the manual's Management Console in a terminal, for keyboard and mouse."""
