/** A machine behind a UNIX socket, as remora-system-x86_64 serves one. */
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createMachine, type Machine } from '@remora/machine';
import { plugins } from '@remora/machines';
import { serveQmp, type QmpSession } from '@remora/qmp';
import { MachineTarget } from '@remora/tools';
import { QmpClient } from './qmp-client.js';

export class ServedMachine {
  readonly machine: Machine;
  readonly target: MachineTarget;
  readonly path: string;
  readonly #folder: string;
  readonly #server: Server;
  readonly #sessions = new Set<QmpSession>();
  /** Why the program was asked to end; undefined as long as it was not. */
  quitBy: string | undefined;

  private constructor(folder: string, devices: readonly string[]) {
    this.#folder = folder;
    this.path = join(folder, 'qmp.sock');
    this.machine = createMachine(undefined, { board: 'q35,memory=128M', plugins, devices });
    this.machine.start();
    this.target = new MachineTarget(this.machine, { name: 'served', paused: true, onQuit: cause => this.#quit(cause) });
    this.#server = createServer(socket => {
      const session = serveQmp(socket, this.target);
      this.#sessions.add(session);
      socket.on('close', () => this.#sessions.delete(session));
    });
  }

  static async open(devices: readonly string[]): Promise<ServedMachine> {
    const served = new ServedMachine(await mkdtemp(join(tmpdir(), 'remora-qmp-')), devices);
    await new Promise<void>(resolve => served.#server.listen(served.path, resolve));
    return served;
  }

  /** Clients that are connected, as the server sees it. */
  get clients(): number {
    return this.#sessions.size;
  }

  /** A client that has negotiated. */
  async client(): Promise<QmpClient> {
    const client = await QmpClient.connect(this.path);
    await client.run('qmp_capabilities');
    return client;
  }

  /** Closes whatever is open; a second time does nothing. */
  async close(): Promise<void> {
    for (const session of this.#sessions) session[Symbol.dispose]();
    if (this.#server.listening) await new Promise(resolve => this.#server.close(resolve));
    this.machine[Symbol.dispose]();
    await rm(this.#folder, { recursive: true, force: true });
  }

  #quit(cause: string): void {
    this.quitBy = cause;
    for (const session of this.#sessions) session[Symbol.dispose]();
  }
}
