/** A program that speaks qtest on its standard input and output, asked one line at a time; and an NVMe controller in it. */
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { CommandLayout, Reg } from '@hw/nvme';
import type { CommandValues } from '@hw/nvme/driver';
import { MORTAL } from '../rig/processes.js';

const BAR = 0xe000_0000;
const ASQ = 0x10_0000;
const ACQ = 0x10_4000;
const ENTRIES = 64;
/** Where a command's data may be: 1 MiB of zeroes, but for what the test writes. */
export const DATA = 0x20_0000;

/** What a command came to: status without `more`, and the result. */
export interface Outcome {
  readonly status: number;
  readonly result: number;
}

interface Queue {
  readonly id: number;
  readonly submission: number;
  readonly completion: number;
  tail: number;
  head: number;
  phase: number;
}

const queueAt = (id: number, submission: number, completion: number): Queue => ({
  ...{ id, submission, completion },
  ...{ tail: 0, head: 0, phase: 1 },
});

export class QtestNvme {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  readonly queues = [queueAt(0, ASQ, ACQ), queueAt(1, 0x11_0000, 0x11_4000)] as const;

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#lines = createInterface({ input: child.stdout! })[Symbol.asyncIterator]();
  }

  /** Starts it with the controller at 00:04.0, and enables that. */
  static async start([file, ...before]: readonly string[], device: readonly string[]): Promise<QtestNvme> {
    const common = ['-M', 'q35', '-m', '64M', '-nodefaults', '-display', 'none', '-S', '-accel', 'tcg'];
    const args = [...before, ...common, '-qtest', 'stdio', '-qtest-log', 'none', ...device];
    const self = new QtestNvme(spawn(file!, args, { ...MORTAL, stdio: ['pipe', 'pipe', 'ignore'] }));
    for (const [register, value] of [
      [0x10, BAR],
      [0x14, 0],
      [0x04, 6],
    ] as const) {
      await self.ask(`outl 0xcf8 0x${(0x8000_2000 + register).toString(16)}`);
      await self.ask(`outl 0xcfc 0x${value.toString(16)}`);
    }
    await self.ask(`writel ${BAR + Reg.AQA} ${(ENTRIES - 1) * 0x1_0001}`);
    await self.ask(`writeq ${BAR + Reg.ASQ} ${ASQ}`);
    await self.ask(`writeq ${BAR + Reg.ACQ} ${ACQ}`);
    await self.ask(`writel ${BAR + Reg.CC} ${0x0046_0001}`);
    return self;
  }

  async ask(command: string): Promise<string> {
    this.#child.stdin!.write(`${command}\n`);
    for (;;) {
      const { value, done } = await this.#lines.next();
      if (done === true) throw new Error(`no answer to "${command}"`);
      if (!value.startsWith('IRQ ')) return value;
    }
  }

  async register(offset: number): Promise<number> {
    return Number((await this.ask(`readl ${BAR + offset}`)).split(' ')[1]);
  }

  async setRegister(offset: number, value: number): Promise<void> {
    await this.ask(`writel ${BAR + offset} ${value}`);
  }

  async read(address: number, bytes: number): Promise<Buffer> {
    return Buffer.from((await this.ask(`read ${address} ${bytes}`)).split(' ')[1]!.slice(2), 'hex');
  }

  async write(address: number, bytes: Uint8Array): Promise<void> {
    await this.ask(`write ${address} ${bytes.length} 0x${Buffer.from(bytes).toString('hex')}`);
  }

  /** One command, to its completion. */
  async run(id: 0 | 1, values: CommandValues): Promise<Outcome> {
    const queue = this.queues[id];
    const entry = CommandLayout.encode({ cid: queue.tail, ...values });
    await this.write(queue.submission + queue.tail * 64, new Uint8Array(entry.buffer));
    queue.tail = (queue.tail + 1) % ENTRIES;
    await this.setRegister(Reg.DOORBELLS + 8 * id, queue.tail);
    for (;;) {
      const completion = await this.read(queue.completion + queue.head * 16, 16);
      if ((completion.readUInt16LE(14) & 1) !== queue.phase) continue;
      if (completion.readUInt16LE(12) !== entry[0]! >>> 16) throw new Error('another command was completed');
      queue.head = (queue.head + 1) % ENTRIES;
      if (queue.head === 0) queue.phase ^= 1;
      await this.setRegister(Reg.DOORBELLS + 8 * id + 4, queue.head);
      return { status: (completion.readUInt16LE(14) >>> 1) & 0x47ff, result: completion.readUInt32LE(0) };
    }
  }

  stop(): void {
    this.#child.kill('SIGKILL');
  }
}
