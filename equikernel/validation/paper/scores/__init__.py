"""Every activation against finite networks: z-scores and corrections of finite width."""
