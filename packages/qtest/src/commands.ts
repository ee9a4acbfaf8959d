/** The commands of the protocol, as data: how many words each takes, and what it does. Formats of replies are QEMU's. */
import { CommandError, hex64, parseNumber, parseWords, quoted } from './numbers.js';
import type { QtestLines, QtestTarget } from './target.js';

/** What commands need besides the target. */
export interface CommandContext {
  readonly target: QtestTarget;
  /**
   * Tells the client of each change of `lines`, which are some of `device`; if some of the same device are told of already, nothing
   * changes. @throws CommandError if those of another are.
   */
  intercept(device: string, lines: () => QtestLines): void;
}

export interface Command {
  /** How many words may follow the command's own. */
  readonly words: readonly [min: number, max: number];
  /** The reply, without the end of line. @throws CommandError for a FAIL. */
  run(context: CommandContext, words: readonly string[]): string;
}

/** Bytes that one `read` or `write` carries. */
export const MAX_TRANSFER = 2 ** 24;
/** Bytes that one `memset` fills. */
const MAX_FILL = 2 ** 30;
const MAX_PORT = 0xffff;
/** `0x` and at least one digit. */
const SHORTEST_DATA = 3;

const address = new Int32Array(2);
const value = new Int32Array(2);
const bytes = new Uint8Array(8);

function readPort(size: number): Command {
  return {
    words: [1, 1],
    run: ({ target }, [port]) => {
      const read = target.ports.read(parseNumber(port!, MAX_PORT), size);
      return `OK 0x${read.toString(16).padStart(4, '0')}`;
    },
  };
}

function writePort(size: number): Command {
  return {
    words: [2, 2],
    run: ({ target }, [port, data]) => {
      const at = parseNumber(port!, MAX_PORT);
      parseWords(data!, value);
      const low = value[0]! >>> 0;
      target.ports.write(at, size, size === 4 ? low : low % 2 ** (8 * size));
      return 'OK';
    },
  };
}

function readMemory(size: number): Command {
  return {
    words: [1, 1],
    run: ({ target }, [at]) => {
      parseWords(at!, address);
      const out = bytes.fill(0).subarray(0, size);
      target.memory.read(address[1]!, address[0]!, out);
      if (target.endianness === 'big') out.reverse();
      return `OK ${hex64(wordAt(4), wordAt(0))}`;
    },
  };
}

function writeMemory(size: number): Command {
  return {
    words: [2, 2],
    run: ({ target }, [at, data]) => {
      parseWords(at!, address);
      parseWords(data!, value);
      for (let i = 0; i < 8; i++) bytes[i] = value[i >>> 2]! >>> (8 * (i & 3));
      const from = bytes.subarray(0, size);
      if (target.endianness === 'big') from.reverse();
      target.memory.write(address[1]!, address[0]!, from);
      return 'OK';
    },
  };
}

function wordAt(at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
}

function readBlock(encoding: 'hex' | 'base64'): Command {
  return {
    words: [2, 2],
    run: ({ target }, [at, length]) => {
      parseWords(at!, address);
      const out = Buffer.alloc(lengthOf(length!, MAX_TRANSFER));
      target.memory.read(address[1]!, address[0]!, out);
      return `OK ${encoding === 'hex' ? '0x' : ''}${out.toString(encoding)}`;
    },
  };
}

/** What is short is filled up with zeroes, what is too long is cut off. */
const write: Command = {
  words: [3, 3],
  run: ({ target }, [at, length, data]) => {
    parseWords(at!, address);
    const out = Buffer.alloc(lengthOf(length!, MAX_TRANSFER));
    if (data!.length < SHORTEST_DATA) return 'ERR invalid argument size';
    if (!/^0x[0-9a-f]+$/i.test(data!)) throw new CommandError(`${quoted(data!)} is not data: 0x and two digits a byte`);
    // Half a byte at the end is none.
    out.write(data!.slice(2, data!.length & ~1), 'hex');
    target.memory.write(address[1]!, address[0]!, out);
    return 'OK';
  },
};

function lengthOf(text: string, max: number): number {
  const length = parseNumber(text, max);
  if (length === 0) throw new CommandError('a length of 0');
  return length;
}

/** Of short data only what there is is stored: with what QEMU fills it up is not defined. */
const b64write: Command = {
  words: [3, 3],
  run: ({ target }, [at, length, data]) => {
    parseWords(at!, address);
    const room = lengthOf(length!, MAX_TRANSFER);
    if (!/^[a-z0-9+/]+={0,2}$/i.test(data!)) throw new CommandError(`${quoted(data!)} is not base64`);
    const found = Buffer.from(data!, 'base64').subarray(0, room);
    if (found.length > 0) target.memory.write(address[1]!, address[0]!, found);
    return 'OK';
  },
};

const memset: Command = {
  words: [3, 3],
  run: ({ target }, [at, length, pattern]) => {
    parseWords(at!, address);
    const count = lengthOf(length!, MAX_FILL);
    parseWords(pattern!, value);
    target.memory.fill(address[1]!, address[0]!, count, value[0]! & 0xff);
    return 'OK';
  },
};

/** Without an argument: to the next timer. OK if time moved. */
const clockStep: Command = {
  words: [0, 1],
  run: ({ target: { clock } }, [step]) => {
    const before = clock.now;
    const to = step === undefined ? clock.next() : before + parseNumber(step, Number.MAX_SAFE_INTEGER - before);
    if (to !== undefined && to > before) clock.set(to);
    return `${clock.now > before ? 'OK' : 'FAIL'} ${clock.now}`;
  },
};

const clockSet: Command = {
  words: [1, 1],
  run: ({ target: { clock } }, [text]) => {
    const to = parseNumber(text!, Number.MAX_SAFE_INTEGER);
    if (to >= clock.now) clock.set(to);
    return `${clock.now === to ? 'OK' : 'FAIL'} ${clock.now}`;
  },
};

function intercept(direction: 'inputs' | 'outputs'): Command {
  return {
    words: [1, direction === 'outputs' ? 2 : 1],
    run: (context, [path, name]) => {
      const device = deviceAt(context.target, path!);
      context.intercept(device, () => linesOf(context.target, direction, path!, name));
      return 'OK';
    },
  };
}

/** What libqtest sends for pins without a name. */
const UNNAMED = 'unnamed-gpio-in';

const setIrqIn: Command = {
  words: [4, 4],
  run: ({ target }, [path, name, number, level]) => {
    const pins = linesOf(target, 'inputs', path!, name === UNNAMED ? undefined : name);
    const pin = parseNumber(number!, pins.count - 1);
    parseWords(level!, value);
    pins.set(pin, (value[0]! | value[1]!) !== 0);
    return 'OK';
  },
};

/** @throws CommandError if there is none. */
function deviceAt(target: QtestTarget, path: string): string {
  const device = target.findDevice(path);
  if (device === undefined) throw new CommandError('Unknown device');
  return device;
}

function linesOf<D extends 'inputs' | 'outputs'>(
  target: QtestTarget,
  direction: D,
  path: string,
  name: string | undefined,
): NonNullable<ReturnType<QtestTarget[D]>> {
  deviceAt(target, path);
  const lines = target[direction](path, name);
  if (lines === undefined) throw new CommandError(`${quoted(path)} has no such ${direction}`);
  return lines as NonNullable<ReturnType<QtestTarget[D]>>;
}

export const COMMANDS: ReadonlyMap<string, Command> = new Map<string, Command>([
  ['endianness', { words: [0, 0], run: ({ target }) => `OK ${target.endianness}` }],
  ['inb', readPort(1)],
  ['inw', readPort(2)],
  ['inl', readPort(4)],
  ['outb', writePort(1)],
  ['outw', writePort(2)],
  ['outl', writePort(4)],
  ['readb', readMemory(1)],
  ['readw', readMemory(2)],
  ['readl', readMemory(4)],
  ['readq', readMemory(8)],
  ['writeb', writeMemory(1)],
  ['writew', writeMemory(2)],
  ['writel', writeMemory(4)],
  ['writeq', writeMemory(8)],
  ['read', readBlock('hex')],
  ['write', write],
  ['b64read', readBlock('base64')],
  ['b64write', b64write],
  ['memset', memset],
  ['clock_step', clockStep],
  ['clock_set', clockSet],
  ['irq_intercept_in', intercept('inputs')],
  ['irq_intercept_out', intercept('outputs')],
  ['set_irq_in', setIrqIn],
  [
    'module_load',
    {
      words: [2, 2],
      run: ({ target }, [prefix, name]) => {
        if (!target.loadModule(prefix!, name!)) throw new CommandError(`there is no module ${quoted(prefix! + name!)}`);
        return 'OK';
      },
    },
  ],
]);
