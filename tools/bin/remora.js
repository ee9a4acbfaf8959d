#!/usr/bin/env node
// A committed shim: npm links it when it installs, before anything is built.
import { existsSync } from 'node:fs';

const main = new URL('../dist/cli/main.js', import.meta.url);
if (existsSync(main)) {
  await import(main.href);
} else {
  process.stderr.write('remora: not built yet: run "npm run build" first\n');
  process.exitCode = 2;
}
