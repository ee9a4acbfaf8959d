/**
 * A real QEMU. Distributions build it without the qtest accelerator, so its processor runs, but firmware of three instructions halts it
 * for ever; virtual time then jumps from one timer to the next (`-icount sleep=off`), and a transfer of edu takes no time.
 */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createConnection, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { folderWithUs, spawnWithUs } from '../leftovers/index.js';
import { type DiffConfig, machineArguments } from './configs.js';
import type { Peer } from './peers.js';
import type { Line } from './program.js';
import { QemuError } from './qemu-error.js';
import { optionsFor, type QemuFacts } from './qemu-facts.js';

const FIRMWARE_BYTES = 0x1_0000;
/** cli; hlt; jmp to the hlt */
const HALT = [0xfa, 0xf4, 0xeb, 0xfd];
const RESET_VECTOR = 0xfff0;
const POLLS = 100_000;
/** Counted by attempts: while the computer stands still, QEMU does, too. */
const START_MS = 120_000;
const CONNECT_MS = 20;
/** For all lines of a program; on a real hang only. */
const RUN_MS = 300_000;
const LINE_SHOWN = 60;

export interface QemuPeerOptions {
  readonly program: string;
  readonly facts: QemuFacts;
  /** With an iommu-testdev. Default: if it has one. */
  readonly testdev?: boolean;
  /** How long a program may take, in milliseconds. */
  readonly timeLimit?: number;
}

export class QemuPeer implements Peer {
  readonly #child: ChildProcess;
  readonly #folder: Disposable;
  readonly #replies: AsyncIterator<string>;
  readonly #monitor: Socket;
  /** What it wrote to standard error. */
  readonly #said: () => string;
  readonly #events: AsyncIterator<string>;
  readonly #timeLimit: number;
  #hung = false;

  private constructor(child: ChildProcess, folder: Disposable, monitor: Socket, said: () => string, timeLimit: number) {
    this.#said = said;
    this.#child = child;
    this.#folder = folder;
    this.#monitor = monitor;
    this.#timeLimit = timeLimit;
    this.#replies = createInterface(child.stdout!)[Symbol.asyncIterator]();
    this.#events = createInterface(monitor)[Symbol.asyncIterator]();
  }

  /** @throws QemuError */
  static async start(config: DiffConfig, { program, facts, ...more }: QemuPeerOptions): Promise<QemuPeer> {
    const named = { ...config, options: optionsFor(facts, config.options) };
    const folder = folderWithUs('remora-diff-');
    const socket = join(folder.path, 'monitor');
    const firmware = new Uint8Array(FIRMWARE_BYTES);
    firmware.set(HALT, RESET_VECTOR);
    writeFileSync(join(folder.path, 'firmware'), firmware);
    const args = [
      ...machineArguments(named, { testdev: more.testdev ?? facts.testdev }),
      ...['-accel', 'tcg', '-icount', 'shift=0,sleep=off', '-bios', join(folder.path, 'firmware')],
      ...['-qtest', 'stdio', '-qtest-log', 'none', '-qmp', `unix:${socket},server=on,wait=off`],
    ];
    const child = spawnWithUs(program, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    let said = '';
    child.stderr!.on('data', (chunk: Buffer) => (said += chunk.toString()));
    child.stdin!.on('error', () => undefined);
    let gone: string | undefined;
    child.once('error', failure => (gone = failure.message));
    child.once('exit', () => (gone ??= said.trim().split('\n').at(-1) ?? 'it ended'));
    for (let attempts = 0; attempts < START_MS / CONNECT_MS && gone === undefined; attempts++) {
      const monitor = await connect(socket);
      if (monitor !== undefined) {
        const peer = new QemuPeer(child, folder, monitor, () => said, more.timeLimit ?? RUN_MS);
        await peer.#within(async () => {
          await peer.#until('QMP');
          await peer.#command('qmp_capabilities', 'return');
        });
        return peer;
      }
      await new Promise(resolve => setTimeout(resolve, CONNECT_MS));
    }
    child.kill('SIGKILL');
    folder[Symbol.dispose]();
    throw new QemuError(`${program}: ${gone ?? `no monitor within ${START_MS / 1000} s`}`);
  }

  reset(): Promise<void> {
    return this.#within(() => this.#command('system_reset', 'RESET'));
  }

  run(lines: readonly Line[]): Promise<string[]> {
    return this.#within(async () => {
      const replies: string[] = [];
      let from = 0;
      for (let next = 0; next < lines.length; next++) {
        if (lines[next]!.untilIdle !== true) continue;
        replies.push(...(await this.#ask(lines.slice(from, next))), await this.#poll(lines[next]!));
        from = next + 1;
      }
      replies.push(...(await this.#ask(lines.slice(from))));
      return replies;
    });
  }

  /** Ends a QEMU that does not come to an end: whoever waits for it is told. */
  async #within<T>(act: () => Promise<T>): Promise<T> {
    const timer = setTimeout(() => {
      this.#hung = true;
      this.#child.kill('SIGKILL');
    }, this.#timeLimit);
    try {
      return await act();
    } finally {
      clearTimeout(timer);
    }
  }

  async #ask(lines: readonly Line[]): Promise<string[]> {
    this.#child.stdin!.write(lines.map(({ text }) => `${text}\n`).join(''));
    const replies: string[] = [];
    for (const { text } of lines) {
      const { value, done } = await this.#replies.next();
      if (done === true) throw this.#ended(` at "${text.slice(0, LINE_SHOWN)}"`);
      replies.push(value);
    }
    return replies;
  }

  #ended(where: string): QemuError {
    if (this.#hung) return new QemuError(`QEMU gave no reply${where} within ${this.#timeLimit / 1000} s`);
    return new QemuError(`QEMU ended${where}: ${this.#said().trim().split('\n').at(-1)}`);
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
      const { value, done } = await this.#events.next();
      if (done === true) throw this.#ended('');
      const message = JSON.parse(value as string) as Record<string, unknown>;
      if (awaited in message || message['event'] === awaited) return;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#monitor.destroy();
    if (this.#child.exitCode === null && this.#child.signalCode === null) {
      this.#child.kill('SIGKILL');
      await once(this.#child, 'exit');
    }
    this.#folder[Symbol.dispose]();
  }
}

function connect(path: string): Promise<Socket | undefined> {
  return new Promise(resolve => {
    const socket = createConnection(path);
    socket.once('connect', () => resolve(socket)).once('error', () => resolve(undefined));
  });
}
