/**
 * What reaches a machine from outside, one access at a time, as plain data: so that what a guest's software did once can be done again,
 * by nobody in particular, on another machine or in another process, up to any access and from any on.
 */
import type { MemoryPort, MemTx, Section } from '@remora/core';
import type { Machine } from '@remora/machine';
import type { Q35 } from '@hw/q35';

export type Operation =
  | { readonly op: 'load' | 'read'; readonly hi: number; readonly lo: number; readonly count: number }
  | { readonly op: 'store'; readonly hi: number; readonly lo: number; readonly words: readonly number[] }
  | { readonly op: 'write'; readonly hi: number; readonly lo: number; readonly bytes: string }
  | { readonly op: 'config'; readonly bdf: string; readonly at: number; readonly size: number; readonly value?: number }
  | { readonly op: 'port'; readonly at: number; readonly bytes: string }
  | { readonly op: 'port-read'; readonly at: number; readonly count: number }
  | { readonly op: 'clock'; readonly ns: number }
  | { readonly op: 'pin'; readonly pin: number; readonly on: boolean }
  | { readonly op: 'reset' };

/** Does `operation`. Returns what whoever did it would see. */
export function perform(machine: Machine, operation: Operation): string {
  switch (operation.op) {
    case 'load': {
      const words = new Int32Array(operation.count);
      const result = machine.memory.load(operation.hi, operation.lo, words, 0, words.length);
      return seen(result, new Uint8Array(words.buffer));
    }
    case 'read': {
      const bytes = new Uint8Array(operation.count);
      return seen(machine.memory.read(operation.hi, operation.lo, bytes), bytes);
    }
    case 'store': {
      const words = Int32Array.from(operation.words);
      return seen(machine.memory.store(operation.hi, operation.lo, words, 0, words.length));
    }
    case 'write':
      return seen(machine.memory.write(operation.hi, operation.lo, bytesOf(operation.bytes)));
    case 'config': {
      const { bdf, at, size, value } = operation;
      if (value === undefined) return String(machine.config.read(bdf, at, size));
      machine.config.write(bdf, at, value, size);
      return '';
    }
    case 'port':
      return seen(machine.ports.write(0, operation.at, bytesOf(operation.bytes)));
    case 'port-read': {
      const bytes = new Uint8Array(operation.count);
      return seen(machine.ports.read(0, operation.at, bytes), bytes);
    }
    case 'clock':
      machine.clock.step(operation.ns);
      return '';
    case 'pin':
      (machine.board as Q35).ioapic.set(operation.pin, operation.on);
      return '';
    case 'reset':
      machine.reset();
      return '';
  }
}

function seen(result: MemTx, bytes: Uint8Array = new Uint8Array()): string {
  return `${result} ${Buffer.from(bytes).toString('hex')}`;
}

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}

/** What was done to a machine, and what was seen of it. */
export class Recording {
  readonly operations: Operation[] = [];
  readonly seen: string[] = [];
  readonly #machine: Machine;

  constructor(machine: Machine) {
    this.#machine = machine;
  }

  /** Does and notes `operation`. */
  do(operation: Operation): string {
    const seen = perform(this.#machine, operation);
    this.operations.push(operation);
    this.seen.push(seen);
    return seen;
  }

  /** The machine as a guest's software knows it: its accesses are noted. */
  get machine(): Machine {
    const port = new RecordedMemory(this, this.#machine);
    const config = {
      read: (bdf: string, at: number, size: number) => Number(this.do({ op: 'config', bdf, at, size })),
      write: (bdf: string, at: number, value: number, size: number) => {
        this.do({ op: 'config', bdf, at, size, value });
      },
      functionAt: (bdf: string) => this.#machine.config.functionAt(bdf),
    };
    const replaced: Readonly<Record<PropertyKey, unknown>> = {
      memory: port,
      config,
      reset: () => this.do({ op: 'reset' }),
    };
    return new Proxy(this.#machine, {
      get: (target, key) => {
        const own = replaced[key];
        if (own !== undefined) return own;
        const value: unknown = Reflect.get(target, key, target);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
  }
}

class RecordedMemory implements MemoryPort {
  readonly #recording: Recording;
  readonly #machine: Machine;

  constructor(recording: Recording, machine: Machine) {
    this.#recording = recording;
    this.#machine = machine;
  }

  sections(): readonly Section[] {
    return this.#machine.memory.sections();
  }

  load(hi: number, lo: number, out: Int32Array, at: number, count: number): MemTx {
    const { result, bytes } = this.#parse(this.#recording.do({ op: 'load', hi, lo, count }));
    out.set(new Int32Array(Uint8Array.from(bytes).buffer), at);
    return result;
  }

  store(hi: number, lo: number, from: Int32Array, at: number, count: number): MemTx {
    return this.#parse(this.#recording.do({ op: 'store', hi, lo, words: [...from.subarray(at, at + count)] })).result;
  }

  read(hi: number, lo: number, out: Uint8Array): MemTx {
    const { result, bytes } = this.#parse(this.#recording.do({ op: 'read', hi, lo, count: out.length }));
    out.set(bytes);
    return result;
  }

  write(hi: number, lo: number, from: Uint8Array): MemTx {
    return this.#parse(this.#recording.do({ op: 'write', hi, lo, bytes: Buffer.from(from).toString('hex') })).result;
  }

  #parse(seen: string): { result: MemTx; bytes: Uint8Array } {
    const [result = '', hex = ''] = seen.split(' ');
    return { result: Number(result) as MemTx, bytes: bytesOf(hex) };
  }
}
