import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import type { MachineDefinition } from '@remora/machine';
import type { DiffOptions } from '../diff/index.js';
import type { FailNthCommandOptions } from '../fail-nth/index.js';
import type { LiveOptions } from '../live/index.js';
import type { Streams } from './streams.js';
import { UsageError } from './usage-error.js';

const MAX_SEED = 0xffff_ffff;
const DEFAULT_PROGRAMS = 100;

/**
 * Runs one command line; each command loads what it needs when it is the one that was given. Returns the exit code: 0, 1 if something is not as it should be (a mismatch), 2 for bad input.
 * @throws UsageError or ConfigError for a person's mistake.
 */
export async function program(args: readonly string[], streams: Streams): Promise<number> {
  let exitCode = 0;
  const command = new Command('remora')
    .version(version(), '--version')
    .description('Device models of virtual machines, their IOMMUs, and what reaches the host.')
    .exitOverride()
    .configureOutput({ writeOut: text => void streams.stdout.write(text), writeErr: () => undefined })
    .showHelpAfterError(false)
    .helpCommand(false);
  let ownHelp = false;
  command.addHelpText('after', () => {
    ownHelp = true;
    return '';
  });

  command
    .command('run')
    .description('start a machine and play its guest; print what reached the host, and what came of it')
    .argument('<machine>', 'a name, or a TypeScript file that defines a machine')
    .option('--seed <n>', 'moves addresses and PASIDs', parseSeed, 1)
    .option('--json', 'one ledger event a line')
    .option('--verbose', 'every event of the ledger, as a tree')
    .action(async (named: string, options: { seed: number; json?: boolean; verbose?: boolean }) => {
      const definition = await load(named);
      const { run } = await import('./run.js');
      exitCode = run(definition, options, streams);
      if (definition.replays === true) {
        const { runReplay, shippedRecordings } = await import('../replay/index.js');
        const replayed = await runReplay(
          [...shippedRecordings(), ...(options.json === true ? ['--json'] : [])],
          streams,
        );
        exitCode = Math.max(exitCode, replayed);
      }
    });

  command
    .command('replay')
    .description('give the VT-d model what recorded guests did, and compare what it does with what was recorded')
    .argument('<file...>', 'recordings, plain or gzipped')
    .option('--json', 'one object a file')
    .action(async (files: string[], options: { json?: boolean }) => {
      const { runReplay } = await import('../replay/index.js');
      exitCode = await runReplay([...files, ...(options.json === true ? ['--json'] : [])], streams);
    });

  command
    .command('diff')
    .description(
      'run random programs on the VT-d model and on a real QEMU; print the first difference, as a small program',
    )
    .requiredOption('--qemu <path>', 'a qemu-system-x86_64 of version 10 or later')
    .option('--seed <n>', "the first program's seed; the others follow", parseSeed, 1)
    .option('--count <n>', 'programs of each configuration', parsePrograms, DEFAULT_PROGRAMS)
    .option('--config <name>', 'this configuration only')
    .option('--program <file>', 'run this program again, and no others')
    .option('--save <file>', 'write the smallest program that differs')
    .option('--lines <file>', 'write its qtest lines, for a QEMU with the qtest accelerator')
    .option('--json', 'one object a configuration, and one for all')
    .action(async (options: DiffOptions) => {
      const { QemuError, runDiff } = await import('../diff/index.js');
      try {
        exitCode = await runDiff(options, streams);
      } catch (failure) {
        if (!(failure instanceof QemuError || failure instanceof RangeError)) throw failure;
        throw new UsageError(failure.message, { cause: failure });
      }
    });

  let scenarioHelp = false;
  command
    .command('fail-nth')
    .description(
      'let each thing fail once that a scenario asks of its host, with each plausible errno; judge what follows',
    )
    .argument('<scenario>', 'a name, all, or a TypeScript file that exports a scenario')
    .option('--seed <n>', 'chooses the memory accesses that fail, and the registers', parseSeed, 1)
    .option('--errno <name>', 'this one only, as EIO; memory accesses have none')
    .option('--point <n>', 'this point of failure only; say what was told', parseCount('--point'))
    .option('--only <name>', 'points of this name only, as VFIO_IOMMU_BIND or open')
    .option('--samples <n>', 'so many memory accesses, or all; default: 16', parseSamples('--samples'))
    .option(
      '--registers <n>',
      'so many accesses to registers (pread, pwrite), or all; default: all',
      parseSamples('--registers'),
    )
    .option('--whole', 'take all steps after the one with the failure, not just the next')
    .option('--verbose', 'say what was told, and how often')
    .option('--json', 'one object a scenario')
    .addHelpText('after', () => {
      scenarioHelp = true;
      return '';
    })
    .action(async (named: string, options: FailNthCommandOptions) => {
      const { runFailNth } = await import('../fail-nth/index.js');
      exitCode = await runFailNth(named, options, streams);
    });

  command
    .command('live')
    .description("boot an unmodified Linux on this project's VT-d unit and NVMe disk, in a QEMU; print what came of it")
    .option('--mode <name>', 'how Linux uses the unit, or all: see docs/live-linux.md', 'legacy')
    .option('--kernel <series>', "of Debian's, 6.1 or 7.2 or another, or the path of an image", '6.1')
    .option('--keep <folder>', 'write the consoles there')
    .option(
      '--record <file>',
      'write a recording of what Linux did to the unit, for remora replay; gzipped if it ends in .gz',
    )
    .option('--fetch', 'fetch what is needed, and start nothing')
    .option('--update', 'fetch the newest packages, whatever is there')
    .option('--mirror <url>', "of Debian's packages; default: that of this machine")
    .option('--json', 'one object a mode')
    .action(async (options: LiveOptions) => {
      const { LiveError, runLive } = await import('../live/index.js');
      try {
        exitCode = await runLive(options, streams);
      } catch (failure) {
        if (!(failure instanceof LiveError)) throw failure;
        throw new UsageError(failure.message, { cause: failure });
      }
    });

  command
    .command('host')
    .description('tell whether this Linux lends a PCI function to machines, and what is missing')
    .argument('<function>', 'its address, as 0000:3f:00.0')
    .option('--iommufd', 'by /dev/iommu, and not by its group')
    .action(async (bdf: string, options: { iommufd?: boolean }) => {
      const { hostCommand } = await import('./host.js');
      exitCode = hostCommand(bdf, options, streams);
    });

  command
    .command('save')
    .description("play a machine's guest as far as asked, and write the whole machine's state to a file")
    .argument('<machine>', 'a name, or a TypeScript file that defines a machine')
    .argument('<file>', 'where to; an older file is overwritten')
    .option('--after <step>', "the step of the machine's guest after which to save; default: the last one")
    .option('--steps <n>', 'how many steps to play before', parseCount('--steps'))
    .option('--seed <n>', 'moves addresses and PASIDs', parseSeed, 1)
    .option('--json', 'as JSON')
    .action(
      async (
        named: string,
        file: string,
        options: { seed: number; after?: string; steps?: number; json?: boolean },
      ) => {
        const { save } = await import('./save.js');
        save(await load(named), { file, ...options }, streams);
      },
    );

  command
    .command('restore')
    .description('make the machine of a state file again, from the file alone; print what stands at its host again')
    .argument('<file>', 'written by remora save')
    .option('--run', "go on with the remaining steps of the machine's guest")
    .option('--machine <machine>', 'its definition, if it has parts that are not in Remora')
    .option('--seed <n>', "the new host's seed; default: that of the host before", parseSeed)
    .option('--json', 'one object a line')
    .action(async (file: string, options: { run?: boolean; machine?: string; seed?: number; json?: boolean }) => {
      const { restore } = await import('./restore.js');
      await restore(file, options, streams);
    });

  command
    .command('serve')
    .description("serve devices to your own QEMU, by vfio-user; print what to put on QEMU's command line")
    .argument(
      '<device...>',
      "as for QEMU's -device, or a TypeScript file with the plug-in of one device: ./lamp.ts,id=x",
    )
    .option('--socket <path>', 'where QEMU connects; once for each device, or a folder for all', collect, [])
    .option(
      '--memory <file>',
      'the file of QEMU\'s memory-backend-file, for the devices\' DMA; QEMU makes it; or "message": QEMU is asked for each transfer, which is slow',
    )
    .option('--fds', 'QEMU passes descriptors of its memory, and of INTx, MSI and MSI-X: needs koffi')
    .action(async (devices: string[], options: { socket: string[]; memory?: string; fds?: boolean }) => {
      const { serve } = await import('./serve.js');
      await serve(devices, options, streams);
    });

  command
    .command('info')
    .description('print what a machine is made of: buses, address spaces, capabilities')
    .argument('<machine>', 'a name, or a TypeScript file that defines a machine')
    .option('--seed <n>', 'moves addresses and PASIDs', parseSeed, 1)
    .option('--json', 'as JSON')
    .action(async (named: string, options: { seed: number; json?: boolean }) => {
      const { info } = await import('./info.js');
      info(await load(named), options, streams);
    });

  command
    .command('walk')
    .description('print every table that is read to translate an address')
    .argument('<machine>', 'a name, or a TypeScript file that defines a machine')
    .argument('<bdf>', "the device's address in the guest, as 00:03.0")
    .argument('<pasid>', 'a PASID, or - for a request without one')
    .argument('<iova>', 'the address, hexadecimal with 0x')
    .option('--seed <n>', 'moves addresses and PASIDs', parseSeed, 1)
    .option('--after <step>', "the step of the machine's guest after which to look")
    .action(
      async (named: string, bdf: string, pasid: string, iova: string, options: { seed: number; after?: string }) => {
        const { walk } = await import('./walk.js');
        walk(await load(named), { bdf, pasid, iova, ...options }, streams);
      },
    );

  try {
    await command.parseAsync([...args], { from: 'user' });
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error;
    if (args.length === 0) command.outputHelp();
    if (ownHelp && !scenarioHelp) streams.stdout.write(`\nMachines:\n${await machineList()}\n`);
    if (scenarioHelp) {
      const { scenarioList } = await import('../fail-nth/index.js');
      streams.stdout.write(`\nScenarios:\n${scenarioList()}\n`);
    }
    if (args.length === 0) return 2;
    if (error.exitCode === 0) return 0;
    const message = error.message.replace(/^error: /, '').replace(/\n\(Did you mean (.*)\)$/, '; did you mean $1');
    throw new UsageError(`${message}; see remora --help`, { cause: error });
  }
  return exitCode;
}

async function load(named: string): Promise<MachineDefinition> {
  const { loadMachine } = await import('./load-machine.js');
  return loadMachine(named);
}

function version(): string {
  const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
    version: string;
  };
  return manifest.version;
}

function collect(value: string, before: readonly string[]): string[] {
  return [...before, value];
}

function parseSeed(text: string): number {
  const seed = Number(text);
  if (!Number.isInteger(seed) || seed < 0 || seed > MAX_SEED || text.trim() === '') {
    throw new UsageError(`--seed: "${text}" is not a whole number from 0 to ${MAX_SEED}`);
  }
  return seed;
}

function parseCount(option: string): (text: string) => number {
  return text => {
    if (/^[0-9]{1,9}$/.test(text)) return Number(text);
    throw new UsageError(`${option}: "${text}" is not a number${option === '--steps' ? ' of steps' : ''}`);
  };
}

function parseSamples(option: string): (text: string) => number {
  return text => {
    if (text === 'all') return Infinity;
    if (!/^[0-9]{1,9}$/.test(text)) throw new UsageError(`${option}: "${text}" is neither a number nor all`);
    return Number(text);
  };
}

function parsePrograms(text: string): number {
  if (!/^[1-9][0-9]{0,6}$/.test(text)) throw new UsageError(`--count: "${text}" is not a number of programs`);
  return Number(text);
}

async function machineList(): Promise<string> {
  const { machines } = await import('@remora/machines');
  const width = Math.max(...machines.map(machine => machine.name.length));
  return machines.map(machine => `  ${machine.name.padEnd(width)}  ${machine.description}`).join('\n');
}
