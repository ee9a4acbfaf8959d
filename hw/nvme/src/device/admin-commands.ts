/** Admin commands (NVMe 1.4, 5). */
import {
  AdminOpcode,
  ALL_NAMESPACES,
  EventType,
  FeatureId,
  IDENTIFY_BYTES,
  LBA_SHIFTS,
  RETAIN_EVENT,
  SAVE,
  Select,
  SmartEvent,
  LogPage,
  Status,
} from '../spec/index.js';
import { type Command, DEFERRED, Location } from './command.js';
import type { ErrorLog } from './error-log.js';
import type { AsyncEvents } from './events.js';
import type { Features } from './features.js';
import type { Health } from './health.js';
import type { HostData } from './host-data.js';
import type { Identify } from './identify.js';
import { NAMESPACE_ID } from './io-commands.js';
import { hasLogPage, logPageOf } from './log-pages.js';
import type { Namespace } from './namespace.js';
import type { QueueCommands, QueueFormat, Queues } from './queue-commands.js';

export interface AdminParts {
  readonly data: HostData;
  readonly features: Features;
  readonly health: Health;
  readonly errors: ErrorLog;
  readonly events: AsyncEvents;
  readonly identify: Identify;
  readonly queues: Queues;
  readonly queueCommands: QueueCommands;
  readonly namespace: Namespace | undefined;
  /** Completes an outstanding request that is aborted, if there is room for that completion and one more. */
  readonly abort: (cid: number) => boolean;
  /** Largest transfer in bytes. */
  readonly largest: number;
}

const CID_LOCATION = 2;

export class AdminCommands {
  readonly #parts: AdminParts;
  readonly #page = new Uint8Array(IDENTIFY_BYTES);

  constructor(parts: AdminParts) {
    this.#parts = parts;
  }

  /** Returns a status, or DEFERRED. */
  execute(command: Command, format: QueueFormat): number {
    const { queueCommands } = this.#parts;
    if (command.exotic) return command.fail(Status.INVALID_FIELD, Location.FLAGS);
    switch (command.opcode) {
      case AdminOpcode.DELETE_IO_SQ:
        return queueCommands.deleteSubmission(command);
      case AdminOpcode.CREATE_IO_SQ:
        return queueCommands.createSubmission(command, format);
      case AdminOpcode.DELETE_IO_CQ:
        return queueCommands.deleteCompletion(command);
      case AdminOpcode.CREATE_IO_CQ:
        return queueCommands.createCompletion(command, format);
      case AdminOpcode.GET_LOG_PAGE:
        return this.#getLogPage(command, format.pageBytes);
      case AdminOpcode.IDENTIFY:
        return this.#identify(command, format.pageBytes);
      case AdminOpcode.ABORT:
        return this.#abort(command);
      case AdminOpcode.SET_FEATURES:
        return this.#setFeatures(command, format.pageBytes);
      case AdminOpcode.GET_FEATURES:
        return this.#getFeatures(command, format.pageBytes);
      case AdminOpcode.ASYNC_EVENT_REQUEST:
        return this.#awaitEvent(command);
      case AdminOpcode.FORMAT_NVM:
        return this.#format(command);
      default:
        return command.fail(Status.INVALID_OPCODE, Location.OPCODE);
    }
  }

  #identify(command: Command, pageBytes: number): number {
    this.#page.fill(0);
    const status = this.#parts.identify.fill(command, this.#page);
    return status === Status.SUCCESS ? this.#put(command, this.#page, pageBytes) : status;
  }

  /** Beyond the end of a page are zeroes. */
  #getLogPage(command: Command, pageBytes: number): number {
    const { errors, health, features, events, largest } = this.#parts;
    const dword10 = command.dword(10);
    const id = dword10 & 0xff;
    const bytes = ((dword10 >>> 16) + (command.dword(11) & 0xffff) * 0x1_0000 + 1) * 4;
    const offset = command.dword(13) * 2 ** 32 + command.dword(12);
    if (offset % 4 !== 0) return command.fail(Status.INVALID_FIELD, Location.CDW12);
    if (bytes > largest) return command.fail(Status.INVALID_FIELD, Location.CDW10 + 2);
    const page = logPageOf(command, errors, health, features.warnings);
    if (page === undefined) return command.fail(Status.INVALID_LOG_PAGE, Location.CDW10);
    if (!hasLogPage(id, command.nsid)) return command.fail(Status.INVALID_NAMESPACE_OR_FORMAT, Location.NSID);
    if (offset > page.length) return command.fail(Status.INVALID_FIELD, Location.CDW12);
    const answer = new Uint8Array(bytes);
    answer.set(page.subarray(offset, offset + bytes));
    const status = this.#put(command, answer, pageBytes);
    if (status === Status.SUCCESS && (dword10 & RETAIN_EVENT) === 0) events.unmask(id);
    return status;
  }

  #awaitEvent(command: Command): number {
    const { events } = this.#parts;
    if (events.outstanding.includes(command.cid)) return command.fail(Status.COMMAND_ID_CONFLICT, CID_LOCATION);
    if (events.request(command.cid)) return DEFERRED;
    return command.fail(Status.ASYNC_EVENT_LIMIT_EXCEEDED, Location.OPCODE);
  }

  /**
   * All else is completed before an Abort can be fetched, or has not been fetched: only requests for events can be aborted, if there is
   * room for both completions.
   */
  #abort(command: Command): number {
    const { queues, events, abort } = this.#parts;
    const queue = command.dword(10) & 0xffff;
    const cid = command.dword(10) >>> 16;
    command.result = 1;
    if (queues.submission[queue] === undefined) return command.fail(Status.INVALID_FIELD, Location.CDW10);
    if (queue === 0 && events.outstanding.includes(cid) && abort(cid)) {
      events.abort(cid);
      command.result = 0;
    }
    return Status.SUCCESS;
  }

  #getFeatures(command: Command, pageBytes: number): number {
    const { features, data } = this.#parts;
    const id = command.dword(10) & 0xff;
    const select = (command.dword(10) >>> 8) & 7;
    if (!features.has(id) || select > Select.CAPABILITIES) return command.fail(Status.INVALID_FIELD, Location.CDW10);
    if (features.namespaced(id) && command.nsid !== NAMESPACE_ID)
      return command.fail(Status.INVALID_NAMESPACE_OR_FORMAT, Location.NSID);
    if (select === Select.CAPABILITIES) {
      command.result = features.capabilities(id);
      return Status.SUCCESS;
    }
    const bytes = features.dataBytes(id, command.dword(11));
    if (bytes === 0) return features.get(command, id, select);
    const status = data.resolve(command, bytes, pageBytes);
    if (status !== Status.SUCCESS) return status;
    const value = this.#page.subarray(0, bytes);
    features.getData(id, select, value);
    return data.put(value);
  }

  #setFeatures(command: Command, pageBytes: number): number {
    const { features, data, queueCommands } = this.#parts;
    const id = command.dword(10) & 0xff;
    if (!features.has(id)) return command.fail(Status.INVALID_FIELD, Location.CDW10);
    if ((command.dword(10) & SAVE) !== 0) return command.fail(Status.FEATURE_NOT_SAVEABLE, Location.CDW10);
    const { nsid } = command;
    if (features.namespaced(id)) {
      if (nsid !== NAMESPACE_ID && nsid !== ALL_NAMESPACES)
        return command.fail(Status.INVALID_NAMESPACE_OR_FORMAT, Location.NSID);
    } else if (nsid !== 0 && nsid !== ALL_NAMESPACES) {
      const known = nsid === NAMESPACE_ID;
      const status = known ? Status.FEATURE_NOT_NAMESPACE_SPECIFIC : Status.INVALID_NAMESPACE_OR_FORMAT;
      return command.fail(status, Location.NSID);
    }
    if (id === FeatureId.NUMBER_OF_QUEUES && queueCommands.any) return command.fail(Status.COMMAND_SEQUENCE_ERROR);
    const bytes = features.dataBytes(id, command.dword(11));
    if (bytes === 0) {
      return this.#setNumber(command, id);
    }
    let status = data.resolve(command, bytes, pageBytes);
    if (status !== Status.SUCCESS) return status;
    const value = this.#page.subarray(0, bytes);
    status = data.get(value);
    if (status === Status.SUCCESS) features.setData(id, value);
    return status;
  }

  #setNumber(command: Command, id: number): number {
    const { features, events, namespace } = this.#parts;
    const before = features.warnings;
    const status = features.set(command, id);
    if (status !== Status.SUCCESS) return status;
    if (id === FeatureId.VOLATILE_WRITE_CACHE && features.value(id) === 0) namespace?.backing.flush();
    const told = features.value(FeatureId.ASYNC_EVENT) & features.warnings & ~before;
    if (told !== 0) events.happened(EventType.SMART, SmartEvent.TEMPERATURE, LogPage.SMART);
    return Status.SUCCESS;
  }

  /** Format NVM (5.23): everything is erased, whether or not the host asks for that. */
  #format(command: Command): number {
    const { namespace, health } = this.#parts;
    const dword10 = command.dword(10);
    const erase = (dword10 >>> 9) & 7;
    const format = dword10 & 0xf;
    const protection = (dword10 >>> 5) & 7;
    const { nsid } = command;
    if (namespace === undefined || (nsid !== NAMESPACE_ID && nsid !== ALL_NAMESPACES))
      return command.fail(Status.INVALID_NAMESPACE_OR_FORMAT, Location.NSID);
    if (format >= LBA_SHIFTS.length || protection !== 0) return command.fail(Status.INVALID_FORMAT, Location.CDW10);
    if (erase > 1) return command.fail(Status.INVALID_FIELD, Location.CDW10 + 1);
    if (namespace.readonly) return command.fail(Status.NAMESPACE_WRITE_PROTECTED);
    if (namespace.reformat(format)) return Status.SUCCESS;
    health.mediaErrors++;
    return Status.WRITE_FAULT;
  }

  #put(command: Command, from: Uint8Array, pageBytes: number): number {
    const status = this.#parts.data.resolve(command, from.length, pageBytes);
    return status === Status.SUCCESS ? this.#parts.data.put(from) : status;
  }
}
