/**
 * A QEMU that takes vfio-user devices: `QEMU_VFIO_USER` names the program, else it is that of remora live, or qemu-system-x86_64. It is held by qtest: its
 * processor stands still, the test plays the guest.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { cachedQemu, cacheFolder } from '@remora/tools/live';
import { QmpClient } from '../qmp/qmp-client.js';
import { MORTAL, runSync } from '../rig/processes.js';

const RAM_MIB = 64;
const FIRMWARE_BYTES = 0x1_0000;
const CONFIG_ADDRESS = 0xcf8;
const CONFIG_DATA = 0xcfc;
const POLL_MS = 10;
/** So long QEMU waits for our answer, and takes none that comes later: its own 5 s are not much on a busy computer. */
const ANSWER_MS = 240_000;

/** Program and first arguments, or why there is none. */
export function findVfioUserQemu(): { readonly command: readonly string[] } | { readonly missing: string } {
  const named = process.env['QEMU_VFIO_USER'];
  const command = named === undefined ? (cachedQemu(cacheFolder()) ?? ['qemu-system-x86_64']) : [named];
  const [program, ...first] = command;
  const { error, stdout } = runSync(program!, [...first, '-device', 'vfio-user-pci,help']);
  if (error === undefined && stdout.startsWith('vfio-user-pci options')) return { command };
  const problem = error === undefined ? 'has no vfio-user-pci' : 'cannot be run';
  return {
    missing: `${program!} ${problem}: "remora live --fetch" gets a QEMU that has it, or QEMU_VFIO_USER names one`,
  };
}

export interface VmDevice {
  readonly socket: string;
  /** Device number on the root bus. */
  readonly slot: number;
}

export class QemuVm implements AsyncDisposable {
  readonly monitor: QmpClient;
  readonly #child: ChildProcess;
  readonly #replies: AsyncIterator<string>;

  private constructor(child: ChildProcess, monitor: QmpClient) {
    this.#child = child;
    this.monitor = monitor;
    this.#replies = createInterface(child.stdout!)[Symbol.asyncIterator]();
  }

  /**
   * Starts it with these devices; its RAM is in `folder`/ram, or `shared` with nobody. @throws Error with what it says, if it ends.
   */
  static async start(
    [program, ...first]: readonly string[],
    folder: string,
    devices: readonly VmDevice[],
    shared = true,
  ): Promise<QemuVm> {
    const firmware = join(folder, 'firmware');
    writeFileSync(firmware, new Uint8Array(FIRMWARE_BYTES));
    const monitor = join(folder, 'monitor');
    const own = `memory-backend-ram,id=ram,size=${RAM_MIB}M`;
    const file = `memory-backend-file,id=ram,size=${RAM_MIB}M,share=on,mem-path=${join(folder, 'ram')}`;
    const ram = shared ? file : own;
    const args = [
      ...first,
      ...['-machine', 'q35,memory-backend=ram', '-m', `${RAM_MIB}M`, '-accel', 'tcg', '-S', '-nodefaults'],
      ...['-display', 'none', '-bios', firmware, '-object', ram, '-qtest', 'stdio', '-qtest-log', 'none'],
      ...['-qmp', `unix:${monitor},server=on,wait=off`],
      ...devices.flatMap(({ socket, slot }) => [
        '-device',
        JSON.stringify({
          ...{ driver: 'vfio-user-pci', addr: slot.toString(16), 'x-msg-timeout': ANSWER_MS },
          socket: { type: 'unix', path: socket },
        }),
      ]),
    ];
    const child = spawn(program!, args, { ...MORTAL, stdio: ['pipe', 'pipe', 'pipe'] });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    child.stdin.on('error', () => undefined);
    for (;;) {
      if (child.exitCode !== null || child.signalCode !== null) throw new Error(`QEMU ended: ${said}`);
      const client = existsSync(monitor) ? await QmpClient.connect(monitor) : undefined;
      if (client?.greeting !== undefined) {
        await client.run('qmp_capabilities');
        return new QemuVm(child, client);
      }
      await new Promise(resolve => setTimeout(resolve, POLL_MS));
    }
  }

  /** One qtest command. Returns what follows OK. @throws Error for anything else. */
  async ask(command: string): Promise<string> {
    this.#child.stdin!.write(`${command}\n`);
    const { value, done } = await this.#replies.next();
    if (done === true || !/^OK/.test(value as string)) throw new Error(`${command}: ${String(value)}`);
    return (value as string).slice(3);
  }

  async readConfig(slot: number, offset: number): Promise<number> {
    await this.#select(slot, offset);
    return Number(await this.ask(`inl ${CONFIG_DATA}`));
  }

  async writeConfig(slot: number, offset: number, value: number, size: 2 | 4 = 4): Promise<void> {
    await this.#select(slot, offset);
    await this.ask(`out${size === 2 ? 'w' : 'l'} ${CONFIG_DATA + (offset & 3)} ${value}`);
  }

  async read32(address: number): Promise<number> {
    return Number(await this.ask(`readl ${address}`));
  }

  async read64(address: number): Promise<bigint> {
    return BigInt(await this.ask(`readq ${address}`));
  }

  async write32(address: number, value: number): Promise<void> {
    await this.ask(`writel ${address} ${value}`);
  }

  async write64(address: number, value: number): Promise<void> {
    await this.ask(`writeq ${address} ${value}`);
  }

  /** Guest memory, `0x...`. */
  memory(address: number, length: number): Promise<string> {
    return this.ask(`read ${address} ${length}`);
  }

  async setMemory(address: number, data: string): Promise<void> {
    await this.ask(`write ${address} ${(data.length - 2) / 2} ${data}`);
  }

  /** Interrupt vectors that wait in the local APIC of the processor. */
  async waiting(): Promise<number[]> {
    const text = (await this.monitor.run('human-monitor-command', { 'command-line': 'info lapic' })) as string;
    const line = /^IRR\s+(.*)$/m.exec(text)?.[1] ?? '';
    return line
      .split(/\s+/)
      .map(Number)
      .filter(Number.isInteger)
      .filter(vector => vector > 0);
  }

  /** Resolves when `vector` waits. */
  async interrupted(vector: number): Promise<void> {
    while (!(await this.waiting()).includes(vector)) await new Promise(resolve => setTimeout(resolve, POLL_MS));
  }

  /** Resolves when the machine was reset, and its devices with it. */
  async reset(): Promise<void> {
    const before = this.#resets;
    await this.monitor.run('system_reset');
    while (this.#resets === before) {
      if (this.monitor.ended) throw new Error('QEMU has left');
      await new Promise(resolve => setTimeout(resolve, POLL_MS));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }

  get #resets(): number {
    return this.monitor.events.filter(each => each.event === 'RESET').length;
  }

  async #select(slot: number, offset: number): Promise<void> {
    await this.ask(`outl ${CONFIG_ADDRESS} ${0x8000_0000 + slot * 0x800 + (offset & 0xfc)}`);
  }
}
