/** Register-based invalidation: CCMD and IOTLB (VT-d 11.4.6, 11.4.8, vtd.md 1.6, 1.7). */
import { ContextCommand, Granularity, InvalidateAddress, IotlbCommand, Reg, Ttm } from '../spec/index.js';
import type { Behaviour } from './behaviour.js';
import type { Capabilities } from './capabilities.js';
import type { Invalidator } from './invalidate.js';
import type { RegisterFile } from './register-file.js';
import type { UnitState } from './state.js';

export class RegisterCommands {
  readonly #caps: Capabilities;
  readonly #behaviour: Behaviour;
  readonly #registers: RegisterFile;
  readonly #state: UnitState;
  readonly #invalidator: Invalidator;

  constructor(
    caps: Capabilities,
    behaviour: Behaviour,
    registers: RegisterFile,
    state: UnitState,
    invalidator: Invalidator,
  ) {
    this.#caps = caps;
    this.#behaviour = behaviour;
    this.#registers = registers;
    this.#state = state;
    this.#invalidator = invalidator;
  }

  /** Software wrote the dword of CCMD that holds ICC. */
  contextCommandWritten(): void {
    const { words } = this.#registers;
    const at = Reg.CCMD >>> 2;
    const fields = ContextCommand.fields;
    if (fields.icc.get(words, at) === 0 || !this.#completes()) return;
    let granularity = this.#isOpen() ? fields.cirg.get(words, at) : 0;
    if (granularity === Granularity.DOMAIN && this.#behaviour.contextDomainIsGlobal) granularity = Granularity.GLOBAL;
    if (granularity !== 0) {
      const domain = fields.did.get(words, at);
      this.#invalidator.contextCache(granularity, domain, fields.sid.get(words, at), fields.fm.get(words, at), false);
    }
    fields.caig.set(words, at, granularity);
    fields.icc.set(words, at, 0);
  }

  /** Software wrote the dword of IOTLB that holds IVT. */
  iotlbCommandWritten(): void {
    const { words } = this.#registers;
    const addressAt = this.#caps.iotlbBase >>> 2;
    const at = addressAt + 2;
    const fields = IotlbCommand.fields;
    if (fields.ivt.get(words, at) === 0 || !this.#completes()) return;
    const mask = InvalidateAddress.fields.am.get(words, addressAt);
    let granularity = this.#isOpen() ? fields.iirg.get(words, at) : 0;
    const tooWide = !this.#caps.pageSelective || mask > this.#caps.maxAddressMask;
    if (granularity === Granularity.PAGE && tooWide) granularity = 0;
    if (granularity !== 0) {
      const leaf = InvalidateAddress.fields.ih.get(words, addressAt) === 1;
      const lo = words[addressAt]! & ~0xfff;
      this.#invalidator.iotlb(granularity, fields.did.get(words, at), words[addressAt + 1]!, lo, mask, leaf);
    }
    fields.iaig.set(words, at, granularity);
    fields.ivt.set(words, at, 0);
  }

  /** Whether a command is performed at all: not beside the queue, and in legacy mode only. */
  #isOpen(): boolean {
    return !this.#state.queueEnabled && (this.#state.ttm === Ttm.LEGACY || !this.#behaviour.queueModeChecked);
  }

  /** Whether a command that is not performed still ends (not performed), instead of staying busy. */
  #completes(): boolean {
    return this.#behaviour.registerCommandsComplete || !this.#state.queueEnabled;
  }
}
