/**
 * A real QEMU. Distributions build it without the qtest accelerator, so its processor runs, but firmware of three instructions halts it
 * for ever; virtual time then jumps from one timer to the next (`-icount sleep=off`), and a transfer of edu takes no time.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type DiffConfig, machineArguments } from './configs.js';
import type { Peer } from './peers.js';
import type { Line } from './program.js';

const FIRMWARE_BYTES = 0x1_0000;
/** cli; hlt; jmp to the hlt */
const HALT = [0xfa, 0xf4, 0xeb, 0xfd];
const RESET_VECTOR = 0xfff0;
const POLLS = 100_000;
const CONNECT_TRIES = 200;
const CONNECT_MS = 20;

/** QEMU cannot be run, or ended. */
export class QemuError extends Error {
  override readonly name = 'QemuError';
}

export class QemuPeer implements Peer {
  readonly #child: ChildProcess;
  readonly #folder: string;
  readonly #replies: AsyncIterator<string>;
  readonly #monitor: Socket;
  /** What it wrote to standard error. */
  readonly #said: () => string;
  readonly #events: AsyncIterator<string>;

  private constructor(child: ChildProcess, folder: string, monitor: Socket, said: () => string) {
    this.#said = said;
    this.#child = child;
    this.#folder = folder;
    this.#monitor = monitor;
    this.#replies = createInterface(child.stdout!)[Symbol.asyncIterator]();
    this.#events = createInterface(monitor)[Symbol.asyncIterator]();
  }

  /** @throws QemuError */
  static async start(program: string, config: DiffConfig): Promise<QemuPeer> {
    const folder = mkdtempSync(join(tmpdir(), 'remora-diff-'));
    const socket = join(folder, 'monitor');
    const firmware = new Uint8Array(FIRMWARE_BYTES);
    firmware.set(HALT, RESET_VECTOR);
    writeFileSync(join(folder, 'firmware'), firmware);
    const args = [
      ...machineArguments(config),
      ...['-accel', 'tcg', '-icount', 'shift=0,sleep=off', '-bios', join(folder, 'firmware')],
      ...['-qtest', 'stdio', '-qtest-log', 'none', '-qmp', `unix:${socket},server=on,wait=off`],
    ];
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    let said = '';
    child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
    child.stdin.on('error', () => undefined);
    let gone: string | undefined;
    child.once('error', failure => (gone = failure.message));
    child.once('exit', () => (gone ??= said.trim().split('\n').at(-1) ?? 'it ended'));
    for (let tries = 0; tries < CONNECT_TRIES && gone === undefined; tries++) {
      const monitor = await connect(socket);
      if (monitor !== undefined) {
        const peer = new QemuPeer(child, folder, monitor, () => said);
        await peer.#until('QMP');
        await peer.#command('qmp_capabilities', 'return');
        return peer;
      }
      await new Promise(resolve => setTimeout(resolve, CONNECT_MS));
    }
    child.kill('SIGKILL');
    rmSync(folder, { recursive: true });
    throw new QemuError(`${program}: ${gone ?? 'no monitor'}`);
  }

  async reset(): Promise<void> {
    await this.#command('system_reset', 'RESET');
  }

  async run(lines: readonly Line[]): Promise<string[]> {
    const replies: string[] = [];
    let from = 0;
    for (let next = 0; next < lines.length; next++) {
      if (lines[next]!.untilIdle !== true) continue;
      replies.push(...(await this.#ask(lines.slice(from, next))), await this.#poll(lines[next]!));
      from = next + 1;
    }
    replies.push(...(await this.#ask(lines.slice(from))));
    return replies;
  }

  async #ask(lines: readonly Line[]): Promise<string[]> {
    this.#child.stdin!.write(lines.map(({ text }) => `${text}\n`).join(''));
    const replies: string[] = [];
    for (const { text } of lines) {
      const { value, done } = await this.#replies.next();
      if (done === true) throw new QemuError(`QEMU ended at "${text}": ${this.#said().trim().split('\n').at(-1)}`);
      replies.push(value);
    }
    return replies;
  }

  async #poll(line: Line): Promise<string> {
    for (let tries = 0; tries < POLLS; tries++) {
      const [reply] = await this.#ask([line]);
      if ((Number(reply!.split(' ')[1]) & 1) === 0) return reply!;
    }
    throw new QemuError('a transfer does not end');
  }

  async #command(execute: string, awaited: string): Promise<void> {
    this.#monitor.write(`${JSON.stringify({ execute })}\n`);
    await this.#until(awaited);
  }

  /** What the monitor says up to a message that has this key, or is this event. */
  async #until(awaited: string): Promise<void> {
    for (;;) {
      const message = JSON.parse(await next(this.#events)) as Record<string, unknown>;
      if (awaited in message || message['event'] === awaited) return;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#monitor.destroy();
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill('SIGKILL');
      await once(this.#child, 'exit');
    }
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

async function next(lines: AsyncIterator<string>): Promise<string> {
  const { value, done } = await lines.next();
  if (done === true) throw new QemuError('QEMU ended');
  return value as string;
}

function connect(path: string): Promise<Socket | undefined> {
  return new Promise(resolve => {
    const socket = createConnection(path);
    socket.once('connect', () => resolve(socket)).once('error', () => resolve(undefined));
  });
}
