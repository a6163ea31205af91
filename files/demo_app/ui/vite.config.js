import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

const app = "http://127.0.0.1:8000";

export default defineConfig({
  plugins: [react()],
  // No data: URLs: the app's content security policy allows files only.
  build: { assetsInlineLimit: 0 },
  server: { proxy: { "/api": app, "/click-button": app, "/metrics": app } },
});
