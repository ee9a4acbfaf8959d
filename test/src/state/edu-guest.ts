/** Software that computes factorials and moves bytes with an edu device behind a vIOMMU in pass-through, without waiting for it. */
import type { Random } from '@remora/bits';
import type { Machine } from '@remora/machine';
import type { Recording } from './operations.js';

const BDF = '00:06.0';
const BASE = 0xe000_0000;
const MSI_CONTROL = 2;
const MSI_ID = 0x05;
const MEMORY = 0x10_0000;
const BUFFER = 0x4_0000;
/** Offsets of edu's registers. */
const Edu = {
  LIVENESS: 0x04,
  FACTORIAL: 0x08,
  STATUS: 0x20,
  RAISE: 0x60,
  ACK: 0x64,
  FROM: 0x80,
  TO: 0x88,
  COUNT: 0x90,
  COMMAND: 0x98,
};

export class EduGuest {
  readonly #recording: Recording;
  readonly #random: Random;
  readonly #machine: Machine;

  constructor(recording: Recording, random: Random) {
    this.#recording = recording;
    this.#random = random;
    this.#machine = recording.machine;
    const { config } = this.#machine;
    config.write(BDF, 0x10, BASE, 4);
    config.write(BDF, 0x04, 6, 2);
    const msi = config.functionAt(BDF)!.capabilities.find(MSI_ID)!;
    config.write(BDF, msi + 4, 0xfee0_1000, 4);
    config.write(BDF, msi + 12, 0x41, 2);
    config.write(BDF, msi + MSI_CONTROL, 1, 2);
  }

  act(): void {
    const random = this.#random;
    const actions: (() => void)[] = [
      () => this.#write(Edu.LIVENESS, random.next()),
      () => this.#write(Edu.FACTORIAL, random.below(13)),
      () => this.#write(Edu.STATUS, random.below(2) * 0x80),
      () => this.#write(Edu.RAISE, 1 + random.below(4)),
      () => this.#write(Edu.ACK, 0xffff_ffff),
      () => this.#machine.memory.store(0, MEMORY, Int32Array.of(random.next(), random.next()), 0, 2),
      () => this.#transfer(MEMORY, BUFFER, 0),
      () => this.#transfer(BUFFER, MEMORY + 0x1000, 2),
      () => this.#write(Edu.TO, random.next()),
      ...Array<() => void>(4).fill(() => {
        this.#recording.do({ op: 'clock', ns: random.below(2) === 0 ? 30_000_000 : 100_000_000 });
      }),
      () => [0, Edu.LIVENESS, Edu.FACTORIAL, Edu.STATUS, 0x24].forEach(at => this.#read(at)),
      () => this.#machine.memory.load(0, MEMORY + 0x1000, new Int32Array(4), 0, 4),
    ];
    actions[random.below(actions.length)]!();
  }

  /** `direction`: 0 from memory, 2 to memory. */
  #transfer(from: number, to: number, direction: number): void {
    for (const [register, value] of [
      [Edu.FROM, from],
      [Edu.TO, to],
      [Edu.COUNT, 8],
      [Edu.COMMAND, 1 + direction + 4 * this.#random.below(2)],
    ] as const)
      this.#wide(register, value);
  }

  #wide(offset: number, value: number): void {
    const bytes = new Uint8Array(8);
    new DataView(bytes.buffer).setUint32(0, value, true);
    this.#machine.memory.write(0, BASE + offset, bytes);
  }

  #write(offset: number, value: number): void {
    this.#machine.memory.store(0, BASE + offset, Int32Array.of(value), 0, 1);
  }

  #read(offset: number): void {
    this.#machine.memory.load(0, BASE + offset, new Int32Array(1), 0, 1);
  }
}
