/** What a qtest server holds: the parts of a machine that the protocol can touch, and nothing of how the machine is made. */

/** Memory as a processor sees it. An address is (hi, lo); nothing throws, and what is not there reads as the machine has it. */
export interface QtestMemory {
  /** Fills `out`. */
  read(hi: number, lo: number, out: Uint8Array): void;
  write(hi: number, lo: number, bytes: Uint8Array): void;
  /** `length` bytes of `value`. */
  fill(hi: number, lo: number, length: number, value: number): void;
}

/** I/O ports 0 .. 0xffff; `size` is 1, 2 or 4 bytes, values are unsigned. */
export interface QtestPorts {
  read(port: number, size: number): number;
  write(port: number, size: number, value: number): void;
}

/** Virtual time in nanoseconds. */
export interface QtestClock {
  readonly now: number;
  /** When the next timer fires; undefined if none waits. */
  next(): number | undefined;
  /** Moves time on; `ns` is an integer that is not in the past. */
  set(ns: number): void;
}

/** Interrupt lines of one device, in one direction. */
export interface QtestLines {
  readonly count: number;
  /** Calls `changed` with each line whose level changes, until the result is disposed of. */
  watch(changed: (line: number, level: boolean) => void): Disposable;
}

/** Inputs of a device: its pins. */
export interface QtestPins extends QtestLines {
  /** `pin` is below `count`. */
  set(pin: number, level: boolean): void;
}

export interface QtestTarget {
  /** The byte order of the 2, 4 and 8 byte commands. */
  readonly endianness: 'little' | 'big';
  readonly memory: QtestMemory;
  readonly ports: QtestPorts;
  readonly clock: QtestClock;
  /** What the device at the QOM path (or the end of one) `path` is called, whatever path leads there; undefined if there is none. */
  findDevice(path: string): string | undefined;
  /** Its input pins of that name (undefined: those without a name); undefined if it has none. */
  inputs(path: string, name: string | undefined): QtestPins | undefined;
  /** Its output lines, alike. */
  outputs(path: string, name: string | undefined): QtestLines | undefined;
  /** Whether the module `prefix``name` is there: loaded now, or from the start. */
  loadModule(prefix: string, name: string): boolean;
}
