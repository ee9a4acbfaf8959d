/** Runs one kernel when told to: `run` on a line of standard input is answered with nanoseconds per operation and the checksum. */
import { createInterface } from 'node:readline';
import { KERNELS } from './kernels/index.js';

const [name, entries, folder] = process.argv.slice(2);
const kernel = KERNELS[name!]!(Number(entries), folder!);
process.stdout.write('ready\n');
createInterface({ input: process.stdin }).on('line', () => {
  kernel.before?.();
  const start = performance.now();
  const operations = kernel.run();
  const nanoseconds = ((performance.now() - start) * 1e6) / operations;
  process.stdout.write(`${nanoseconds} ${kernel.checksum() >>> 0}\n`);
});
