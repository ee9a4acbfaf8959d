/** `remora-system-x86_64` as libqtest starts it: two sockets on which the test listens, and the program's own process. */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { MORTAL } from '../rig/processes.js';
import type { Answering } from './transcripts.js';

export const PROGRAM = fileURLToPath(new URL('../../../tools/bin/remora-system-x86_64', import.meta.url));

/** Lines of one connection, waited for one after the other. */
export class LineSocket {
  readonly #socket: Socket;
  readonly #lines: string[] = [];
  #rest = '';
  #wake: (() => void) | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      const parts = (this.#rest + chunk.toString('latin1')).split('\n');
      this.#rest = parts.pop()!;
      this.#lines.push(...parts);
      this.#wake?.();
    });
    socket.on('close', () => this.#wake?.());
    socket.on('error', () => undefined);
  }

  send(text: string): void {
    this.#socket.write(text, 'latin1');
  }

  async line(): Promise<string> {
    while (this.#lines.length === 0) {
      if (this.#socket.destroyed) throw new Error('the program closed the connection');
      await new Promise<void>(resolve => (this.#wake = resolve));
    }
    return this.#lines.shift()!;
  }

  close(): void {
    this.#socket.destroy();
  }
}

export class ProgramUnderTest implements Answering, AsyncDisposable {
  readonly process: ChildProcess;
  readonly qtest: LineSocket;
  readonly qmp: LineSocket;
  readonly exited: Promise<number | string | null>;
  readonly #folder: string;

  private constructor(process: ChildProcess, qtest: LineSocket, qmp: LineSocket, folder: string) {
    this.process = process;
    this.qtest = qtest;
    this.qmp = qmp;
    this.#folder = folder;
    this.exited = new Promise(resolve => process.once('exit', (code, signal) => resolve(code ?? signal)));
  }

  /** With the arguments that libqtest puts around a test's own. */
  static async start(args: readonly string[]): Promise<ProgramUnderTest> {
    const folder = mkdtempSync(join(tmpdir(), 'qtest-'));
    const sockets = [join(folder, 'sock'), join(folder, 'qmp')] as const;
    const listening = sockets.map(path => listen(path));
    const program = [PROGRAM, ...libqtestArguments(...sockets, args)];
    const child = spawn(process.execPath, program, { ...MORTAL, stdio: 'inherit' });
    const [qtest, qmp] = await Promise.all(listening.map(each => each.accepted));
    for (const { server } of listening) server.close();
    const started = new ProgramUnderTest(child, new LineSocket(qtest!), new LineSocket(qmp!), folder);
    await started.qmp.line();
    await started.command('qmp_capabilities');
    return started;
  }

  async ask(command: string): Promise<string> {
    this.qtest.send(`${command}\n`);
    return this.qtest.line();
  }

  async reset(): Promise<void> {
    await this.command('system_reset');
  }

  /** Runs a monitor command; events in between are left out. */
  async command(execute: string): Promise<unknown> {
    this.qmp.send(`${JSON.stringify({ execute })}\n`);
    for (;;) {
      const answer = JSON.parse(await this.qmp.line()) as Record<string, unknown>;
      if ('return' in answer) return answer['return'];
      if ('error' in answer) throw new Error(JSON.stringify(answer['error']));
    }
  }

  /** As libqtest ends it. Returns the exit status, or the name of the signal that it died of. */
  stop(): Promise<number | string | null> {
    this.process.kill('SIGTERM');
    return this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.process.kill('SIGKILL');
    await this.exited;
    this.qtest.close();
    this.qmp.close();
    rmSync(this.#folder, { recursive: true });
  }
}

function libqtestArguments(qtest: string, qmp: string, own: readonly string[]): string[] {
  const chardev = `socket,path=${qmp},id=char0`;
  return [
    ...[
      '-qtest',
      `unix:${qtest}`,
      '-qtest-log',
      '/dev/null',
      '-chardev',
      chardev,
      '-mon',
      'chardev=char0,mode=control',
    ],
    ...['-display', 'none', '-audio', 'none', '-run-with', 'exit-with-parent=on', ...own, '-accel', 'qtest'],
  ];
}

function listen(path: string): { readonly server: Server; readonly accepted: Promise<Socket> } {
  const server = createServer().listen(path);
  return { server, accepted: new Promise(resolve => server.once('connection', resolve)) };
}
