/** GCMD and GSTS (VT-d 11.4.4, vtd.md 1.4). Every command completes within the write. */
import { hex } from '@remora/bits';
import { GlobalCommand, InterruptTableAddress, Reg, RootTableAddress, Ttm } from '../spec/index.js';
import { widthMaskHi } from './address.js';
import type { Behaviour } from './behaviour.js';
import type { Capabilities } from './capabilities.js';
import type { VtdPropagation } from './environment.js';
import type { InvalidationQueue } from './invalidation-queue.js';
import type { Invalidator } from './invalidate.js';
import type { RegisterFile } from './register-file.js';
import { supportedCommands } from './register-map.js';
import type { UnitState } from './state.js';
import type { VtdTrace } from './trace-events.js';

export class GlobalCommands {
  readonly #caps: Capabilities;
  readonly #behaviour: Behaviour;
  readonly #registers: RegisterFile;
  readonly #state: UnitState;
  readonly #queue: InvalidationQueue;
  readonly #invalidator: Invalidator;
  readonly #propagation: VtdPropagation | undefined;
  readonly #trace: VtdTrace;
  readonly #supported: number;
  /** Of high words of addresses that are latched. */
  readonly #pointerMask: number;

  constructor(
    caps: Capabilities,
    behaviour: Behaviour,
    registers: RegisterFile,
    state: UnitState,
    queue: InvalidationQueue,
    invalidator: Invalidator,
    propagation: VtdPropagation | undefined,
    trace: VtdTrace,
  ) {
    this.#caps = caps;
    this.#behaviour = behaviour;
    this.#registers = registers;
    this.#state = state;
    this.#queue = queue;
    this.#invalidator = invalidator;
    this.#propagation = propagation;
    this.#trace = trace;
    this.#supported = supportedCommands(caps, behaviour);
    this.#pointerMask = behaviour.pointersTruncated ? widthMaskHi(caps.haw) : -1;
  }

  /** Software wrote GCMD. */
  written(): void {
    const { vtd_reg_write_gcmd: wrote } = this.#trace;
    if (wrote.on) wrote.emit(this.#registers.get(Reg.GSTS), this.#registers.get(Reg.GCMD));
    const command = this.#registers.get(Reg.GCMD) & this.#supported;
    const changed = (command ^ this.#registers.get(Reg.GSTS)) & this.#supported;
    if (this.#behaviour.oneShotsFirst) {
      this.#oneShot(command, GlobalCommand.SRTP);
      this.#oneShot(command, GlobalCommand.SIRTP);
      this.#level(changed, command, GlobalCommand.QIE);
      this.#level(changed, command, GlobalCommand.TE);
    } else {
      this.#level(changed, command, GlobalCommand.TE);
      this.#oneShot(command, GlobalCommand.SRTP);
      this.#level(changed, command, GlobalCommand.QIE);
      this.#oneShot(command, GlobalCommand.SIRTP);
    }
    this.#level(changed, command, GlobalCommand.IRE);
    this.#level(changed, command, GlobalCommand.CFI);
  }

  #oneShot(command: number, bit: number): void {
    if ((command & bit) === 0) return;
    this.#status(bit, false);
    if (bit === GlobalCommand.SRTP) this.#setRootTable();
    else this.#setInterruptTable();
    this.#status(bit, true);
  }

  #level(changed: number, command: number, bit: number): void {
    if ((changed & bit) === 0) return;
    const on = (command & bit) !== 0;
    if (bit === GlobalCommand.QIE) {
      this.#queueEnable(on);
      return;
    }
    this.#status(bit, on);
    if (bit === GlobalCommand.TE) this.#translationEnable(on);
    else if (bit === GlobalCommand.IRE) this.#remappingEnable(on);
    else if (bit === GlobalCommand.CFI) this.#state.compatibilityFormat = on;
  }

  #status(bit: number, on: boolean): void {
    this.#registers.update(Reg.GSTS, bit, on ? bit : 0);
  }

  #setRootTable(): void {
    const state = this.#state;
    const lo = this.#registers.get(Reg.RTADDR);
    const ttm = RootTableAddress.fields.ttm.get(this.#registers.words, Reg.RTADDR >>> 2);
    state.rootHi = this.#registers.get(Reg.RTADDR + 4) & this.#pointerMask;
    state.rootLo = lo & ~0xfff;
    state.ttm = this.#behaviour.modeFromOneBit ? (this.#caps.scalable ? ttm & 1 : 0) : ttm;
    const { vtd_reg_dmar_root: set } = this.#trace;
    if (set.on) set.emit(hex(state.rootHi, state.rootLo), state.ttm === Ttm.SCALABLE);
    if (this.#caps.srtpFlushes) this.#invalidator.everything();
    this.#propagation?.rootTableSet?.();
  }

  /** CAP.ESIRTPS is 0: what is cached of the table before stays until software flushes it. */
  #setInterruptTable(): void {
    const state = this.#state;
    const at = Reg.IRTA >>> 2;
    const { words } = this.#registers;
    state.interruptTableHi = words[at + 1]! & this.#pointerMask;
    state.interruptTableLo = words[at]! & ~0xfff;
    state.interruptTableEntries = 2 ** (InterruptTableAddress.fields.s.get(words, at) + 1);
    const extended = this.#caps.extendedInterruptMode || this.#behaviour.extendedInterruptsAlways;
    state.extendedInterruptMode = extended && InterruptTableAddress.fields.eime.get(words, at) === 1;
    const { vtd_reg_ir_root: set } = this.#trace;
    if (set.on) set.emit(hex(state.interruptTableHi, state.interruptTableLo), state.interruptTableEntries);
  }

  #remappingEnable(on: boolean): void {
    const { vtd_ir_enable: enabled } = this.#trace;
    if (enabled.on) enabled.emit(on);
    this.#state.interruptRemapping = on;
  }

  #translationEnable(on: boolean): void {
    const { vtd_dmar_enable: enabled } = this.#trace;
    if (enabled.on) enabled.emit(on);
    this.#state.translationEnabled = on;
    if (this.#behaviour.translationChangeFlushes) this.#invalidator.everything();
    this.#propagation?.translationChanged?.(on);
  }

  #queueEnable(on: boolean): void {
    if (on) {
      // The status is set first: descriptors that are waiting already are processed within this command.
      this.#status(GlobalCommand.QIE, true);
      this.#queue.enable();
    } else if (this.#queue.disable()) {
      this.#status(GlobalCommand.QIE, false);
    }
  }
}
