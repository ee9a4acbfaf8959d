/** Administrative commands (DSA 9.2.12): what they demand, what they change, and which of them wait for work to end. */
import { Command as PciCommand, Config, type PciFunction } from '@remora/pci';
import {
  Cause,
  Command,
  CommandError,
  CommandStatus,
  CommandWord,
  DeviceState,
  OPERAND_IMS,
  QueueConfig,
  QueueState,
  Reg,
} from '../spec/index.js';
import { judgeDevice, judgeQueue } from './configuration.js';
import type { Registers } from './registers.js';
import type { Scheduler } from './scheduler.js';
import type { Work } from './work.js';

export interface CommandParts {
  readonly registers: Registers;
  readonly fn: PciFunction;
  readonly scheduler: Scheduler;
  /** All of the device as after power-on, but for its PCI function. */
  reset(): void;
}

const CMD = Reg.CMD >>> 2;
const CMDSTS = Reg.CMDSTS >>> 2;
/** An operand that chooses queues: a mask of 16, and which 16. */
const MASK_BITS = 16;

export class Commands {
  readonly #parts: CommandParts;

  constructor(parts: CommandParts) {
    this.#parts = parts;
  }

  /** Software wrote CMD. A command that comes while another one runs is lost. */
  write(value: number): void {
    const { words } = this.#parts.registers;
    if (this.#active) return;
    words[CMD] = value & ~CommandWord.reserved[0]!;
    words[CMDSTS] = 0;
    const error = this.#judge();
    if (error !== CommandError.SUCCESS) {
      this.#complete(error, 0);
      return;
    }
    CommandStatus.fields.active.set(words, CMDSTS, 1);
    this.#begin();
    this.poll();
  }

  /** Completes the command that waits if what it waits for has ended. */
  poll(): void {
    if (!this.#active || (this.#waits && this.#parts.scheduler.busy(this.#concerns))) return;
    this.#perform();
  }

  get #active(): boolean {
    return CommandStatus.fields.active.get(this.#parts.registers.words, CMDSTS) !== 0;
  }

  get #command(): number {
    return CommandWord.fields.command.get(this.#parts.registers.words, CMD);
  }

  get #operand(): number {
    return CommandWord.fields.operand.get(this.#parts.registers.words, CMD);
  }

  /** Whether the command leaves work to end by itself. */
  get #waits(): boolean {
    const command = this.#command;
    return (
      command === Command.DISABLE_DEVICE ||
      command === Command.DRAIN_ALL ||
      command === Command.DISABLE_WQ ||
      command === Command.DRAIN_WQ ||
      command === Command.DRAIN_PASID
    );
  }

  /** The work that a command is about. */
  readonly #concerns = ({ queue, pasid }: Work): boolean => {
    switch (this.#command) {
      case Command.DISABLE_WQ:
      case Command.DRAIN_WQ:
      case Command.ABORT_WQ:
      case Command.RESET_WQ:
        return this.#chosen(queue);
      case Command.DRAIN_PASID:
      case Command.ABORT_PASID:
        return pasid === this.#operand;
      default:
        return true;
    }
  };

  #chosen(queue: number): boolean {
    const first = (this.#operand >>> MASK_BITS) * MASK_BITS;
    return queue >= first && queue < first + MASK_BITS && ((this.#operand >>> (queue - first)) & 1) !== 0;
  }

  #judge(): number {
    const { registers, fn } = this.#parts;
    const enabled = registers.state === DeviceState.ENABLED;
    switch (this.#command) {
      case Command.ENABLE_DEVICE:
        if (registers.state !== DeviceState.DISABLED) return CommandError.DEVICE_ENABLED;
        if ((fn.config.get16(Config.COMMAND) & PciCommand.MASTER) === 0) return CommandError.BUS_MASTER;
        return judgeDevice(registers);
      case Command.DISABLE_DEVICE:
        return enabled ? CommandError.SUCCESS : CommandError.DISABLE_NOT_ENABLED;
      case Command.RESET_DEVICE:
        return CommandError.SUCCESS;
      case Command.ENABLE_WQ:
        if (!enabled) return CommandError.DEVICE_NOT_ENABLED;
        return this.#operand < registers.queues ? judgeQueue(registers, fn, this.#operand) : CommandError.INVALID_QUEUE;
      case Command.DISABLE_WQ:
      case Command.DRAIN_WQ:
      case Command.ABORT_WQ:
      case Command.RESET_WQ:
        return enabled ? this.#judgeMask() : CommandError.NOT_ENABLED;
      case Command.DRAIN_ALL:
      case Command.ABORT_ALL:
      case Command.DRAIN_PASID:
      case Command.ABORT_PASID:
        return enabled ? CommandError.SUCCESS : CommandError.NOT_ENABLED;
      case Command.REQUEST_INTERRUPT_HANDLE:
      case Command.RELEASE_INTERRUPT_HANDLE:
        return this.#operand < Math.min(registers.vectors, OPERAND_IMS)
          ? CommandError.SUCCESS
          : CommandError.INTERRUPT_INDEX;
      default:
        return CommandError.INVALID_COMMAND;
    }
  }

  #judgeMask(): number {
    const { queues } = this.#parts.registers;
    const first = (this.#operand >>> MASK_BITS) * MASK_BITS;
    for (let bit = 0; bit < MASK_BITS; bit++) {
      if (((this.#operand >>> bit) & 1) !== 0 && first + bit >= queues) return CommandError.INVALID_QUEUE;
    }
    return CommandError.SUCCESS;
  }

  /** What happens at once. */
  #begin(): void {
    const { registers, scheduler } = this.#parts;
    const command = this.#command;
    if (command === Command.DISABLE_DEVICE) registers.state = DeviceState.DRAINING;
    if (command === Command.DISABLE_WQ) this.#setQueues(QueueState.BUSY);
    const aborts = command === Command.ABORT_ALL || command === Command.ABORT_WQ || command === Command.ABORT_PASID;
    if (aborts || command === Command.RESET_WQ) scheduler.abort(this.#concerns);
  }

  /** What happens when nothing is waited for any more. */
  #perform(): void {
    const { registers } = this.#parts;
    let result = 0;
    switch (this.#command) {
      case Command.ENABLE_DEVICE:
        registers.state = DeviceState.ENABLED;
        break;
      case Command.DISABLE_DEVICE:
        registers.state = DeviceState.DISABLED;
        for (let queue = 0; queue < registers.queues; queue++) registers.setQueueState(queue, QueueState.DISABLED);
        break;
      case Command.RESET_DEVICE:
        this.#reset();
        break;
      case Command.ENABLE_WQ:
        registers.setQueueState(this.#operand, QueueState.ENABLED);
        break;
      case Command.DISABLE_WQ:
        this.#setQueues(QueueState.DISABLED);
        break;
      case Command.RESET_WQ:
        for (let queue = 0; queue < registers.queues; queue++) if (this.#chosen(queue)) registers.clearQueue(queue);
        break;
      case Command.REQUEST_INTERRUPT_HANDLE:
        result = this.#operand;
        break;
      default:
    }
    this.#complete(CommandError.SUCCESS, result);
  }

  /** The command itself outlives the reset that it makes. */
  #reset(): void {
    const { words } = this.#parts.registers;
    const command = words[CMD]!;
    this.#parts.reset();
    words[CMD] = command;
  }

  /** Those that are chosen and not disabled. */
  #setQueues(state: number): void {
    const { registers } = this.#parts;
    for (let queue = 0; queue < registers.queues; queue++) {
      const at = registers.queueAt(queue);
      const now = QueueConfig.fields.state.get(registers.words, at);
      if (this.#chosen(queue) && now !== QueueState.DISABLED) registers.setQueueState(queue, state);
    }
  }

  #complete(error: number, result: number): void {
    const { registers } = this.#parts;
    registers.words[CMDSTS] = CommandStatus.encode({ error, result })[0]!;
    if (CommandWord.fields.interrupt.get(registers.words, CMD) !== 0) registers.cause(Cause.COMMAND);
  }
}
