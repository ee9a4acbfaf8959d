/** What executes commands, put together: features, logs, events and both command sets. */
import type { Inspector, Ledger, StateReader, StateWriter } from '@remora/core';
import { ADMIN_NAMES, IO_NAMES, MIN_PAGE_SHIFT, Status, statusText } from '../spec/index.js';
import { AdminCommands } from './admin-commands.js';
import { type Command, DEFERRED } from './command.js';
import type { ControllerOptions } from './controller.js';
import { ErrorLog } from './error-log.js';
import { AsyncEvents } from './events.js';
import { Features } from './features.js';
import { Health } from './health.js';
import { HostData } from './host-data.js';
import { Identify } from './identify.js';
import { IoCommands } from './io-commands.js';
import type { Namespace } from './namespace.js';
import { QueueCommands, type QueueFormat } from './queue-commands.js';

/** What the parts need of the engine that drives them. */
export interface PartsPort {
  readonly completeRequest: (cid: number, status: number, result: number, others: number) => boolean;
  readonly format: () => QueueFormat;
}

export class Parts {
  readonly errors = new ErrorLog();
  readonly events: AsyncEvents;
  readonly features: Features;
  readonly health: Health;
  readonly #admin: AdminCommands;
  readonly #io: IoCommands;
  readonly #namespace: Namespace | undefined;
  readonly #name: string;
  readonly #ledger: Ledger;
  readonly #port: PartsPort;
  #buffer = new Uint8Array(0);

  constructor(options: ControllerOptions, port: PartsPort) {
    const { fn, clock, ledger, config, serial, queues, interrupts, vectors, namespace } = options;
    const { completeRequest } = port;
    const largest = 2 ** (config.mdts + MIN_PAGE_SHIFT);
    const data = new HostData(fn.dma, largest);
    this.#name = fn.name;
    this.#ledger = ledger;
    this.#port = port;
    this.#namespace = namespace;
    this.features = new Features(clock, config.max_ioqpairs, vectors);
    this.health = new Health(clock);
    this.events = new AsyncEvents({
      requests: config.aerl + 1,
      events: config.aer_max_queued,
      complete: (cid, result) => completeRequest(cid, Status.SUCCESS, result, 0),
    });
    const { features, health, errors, events } = this;
    this.#admin = new AdminCommands({
      ...{ data, features, health, errors, events, queues, namespace, largest },
      identify: new Identify({ serial, mdts: config.mdts, aerl: config.aerl }, namespace),
      queueCommands: new QueueCommands(queues, { queues: config.max_ioqpairs, mqes: config.mqes }, interrupts),
      abort: cid => completeRequest(cid, Status.COMMAND_ABORT_REQUESTED, 0, 1),
    });
    const buffer = (bytes: number): Uint8Array => this.#room(bytes);
    this.#io = new IoCommands({ data, features, health, buffer, largest }, namespace);
  }

  /** Executes a command of any queue. Returns a status, or DEFERRED. */
  readonly execute = (command: Command): number => {
    if (!this.#ledger.on) return this.#execute(command);
    const event = this.#ledger.open(this.#name, 'nvme-command', described(command));
    const status = this.#execute(command);
    this.#ledger.close(event, { status: status === DEFERRED ? 'outstanding' : statusText(status) });
    return status;
  };

  #execute(command: Command): number {
    const format = this.#port.format();
    if (command.queue === 0) return this.#admin.execute(command, format);
    return this.#io.execute(command, format.pageBytes);
  }

  /** Bytes that are nobody's between two commands. */
  #room(bytes: number): Uint8Array {
    if (this.#buffer.length < bytes) this.#buffer = new Uint8Array(2 ** Math.ceil(Math.log2(bytes)));
    return this.#buffer.length === bytes ? this.#buffer : this.#buffer.subarray(0, bytes);
  }

  save(into: StateWriter): void {
    this.features.save(into.child('features'));
    this.health.save(into.child('health'));
    this.errors.save(into.child('errors'));
    this.events.save(into.child('events'));
    this.#namespace?.save(into.child('namespace'));
  }

  load(from: StateReader): void {
    this.features.load(from.child('features'));
    this.health.load(from.child('health'));
    this.errors.load(from.child('errors'));
    this.events.load(from.child('events'));
    this.#namespace?.load(from.child('namespace'));
  }

  inspect(into: Inspector): void {
    into.value('reads', this.health.reads).value('writes', this.health.writes).value('errors', this.errors.count);
    into.value('eventRequests', this.events.outstanding.length).value('eventsWaiting', this.events.waiting);
    this.#namespace?.inspect(into.child('namespace'));
  }
}

function described(command: Command): Record<string, unknown> {
  const { queue, cid, opcode, nsid } = command;
  const name = (queue === 0 ? ADMIN_NAMES : IO_NAMES).get(opcode) ?? `0x${opcode.toString(16)}`;
  return {
    queue,
    cid,
    command: name,
    nsid,
    cdw10: command.dword(10),
    cdw11: command.dword(11),
    cdw12: command.dword(12),
  };
}
