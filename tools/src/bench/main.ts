/** `npm run bench`. */
import { runBench } from './bench-command.js';

process.exitCode = await runBench(process.argv.slice(2), { stdout: process.stdout, stderr: process.stderr });
