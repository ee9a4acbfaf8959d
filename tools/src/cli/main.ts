/** The `remora` command. */
import { program } from './program.js';

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // Whoever read our output (head, less) has seen enough.
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

try {
  process.exitCode = await program(process.argv.slice(2), { stdout: process.stdout, stderr: process.stderr });
} catch (error) {
  const { isMistake } = await import('./mistakes.js');
  if (!isMistake(error)) throw error;
  process.stderr.write(`remora: ${error.message}\n`);
  process.exitCode = 2;
}
