/** The `remora-system-x86_64` command: a machine, started by QEMU's command line. */
import { parseCommandLine } from './command-line.js';
import { CommandLineError } from './mistake.js';
import { OPTION_NAMES } from './options.js';

const NAME = 'remora-system-x86_64';
const SHOWN = {
  help: `usage: ${NAME} [options]\n\n${OPTION_NAMES.map(name => `-${name}`).join('\n')}`,
  version: `${NAME}: QEMU 10.2.2's command line on Remora's device models`,
  machines: `Supported machines are:
none                 empty machine
pc-q35-10.2          q35 board, devices as QEMU 10.2 has them
q35                  q35 board, devices as their specifications have them`,
} as const;

try {
  await run(process.argv.slice(2));
} catch (failure) {
  if (!(failure instanceof CommandLineError)) throw failure;
  process.stderr.write(`${NAME}: ${failure.message}\n`);
  process.exit(1);
}

async function run(args: readonly string[]): Promise<void> {
  const line = parseCommandLine(args);
  if (line.show === 'trace-events') {
    const { traceEventNames } = await import('./assemble.js');
    process.stdout.write(`${traceEventNames().join('\n')}\n`);
    return;
  }
  if (line.show !== undefined) {
    process.stdout.write(`${SHOWN[line.show]}\n`);
    return;
  }
  // Only now what takes time to load: mistakes are told at once.
  const { System } = await import('./system.js');
  const system = new System(line, () => {
    system[Symbol.dispose]();
    process.exit(0);
  });
  for (const warning of system.warnings) process.stderr.write(`${NAME}: warning: ${warning}\n`);
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => system.quit('host-signal'));
  // A machine runs until it is told to end, whether or not somebody is connected.
  setInterval(() => undefined, 2 ** 30);
  await system.connect();
}
