/** What of a host function's configuration space the guest's function shows as its own: identity, BARs, capabilities. */
import {
  AtsLayout,
  Capability,
  Config,
  type ExpressType,
  ExtendedCapability,
  ExpressLayout,
  MsiLayout,
  MsixLayout,
  PAGE_REQUEST_GROUPS,
  PasidLayout,
  PriLayout,
} from '@remora/pci';
import type { AtsOptions, PciIdentity, PriOptions } from '@remora/pci';

/** First capability, and first extended one. */
const STANDARD_END = 0x100;
const CAPABILITY_ALIGN = 4;

/** A capability that stays the host's: the guest reads and writes it there. */
export interface ForwardedCapability {
  readonly id: number;
  /** Where it is in the host's configuration space. */
  readonly offset: number;
  /** Header included. */
  readonly bytes: number;
}

/** Capabilities that the guest's function has itself. */
export interface EmulatedCapabilities {
  readonly express: { readonly type: ExpressType; readonly endToEndPrefixes: boolean } | undefined;
  /** Vectors. */
  readonly msi: number | undefined;
  readonly msix: { readonly vectors: number; readonly bar: number; readonly tableOffset: number } | undefined;
  readonly pasid: { readonly width: number; readonly execute: boolean; readonly privileged: boolean } | undefined;
}

/** A host function's configuration space as it was when the device was realized. */
export class HostHeader {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #words: Int32Array;
  /** Capabilities in the order of the chain. */
  readonly #chain: readonly { readonly id: number; readonly offset: number }[];

  /** `bytes` is 256 or 4096 long. */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#words = new Int32Array(bytes.length / 4);
    for (let word = 0; word < this.#words.length; word++) this.#words[word] = this.#view.getInt32(4 * word, true);
    this.#chain = this.#walk();
  }

  get identity(): Required<Omit<PciIdentity, 'headerType' | 'interruptPin' | 'pcie'>> {
    const view = this.#view;
    return {
      vendor: view.getUint16(Config.VENDOR, true),
      device: view.getUint16(Config.DEVICE, true),
      revision: view.getUint8(Config.REVISION),
      classCode: view.getUint8(Config.CLASS) | (view.getUint16(Config.CLASS + 1, true) << 8),
      subsystemVendor: view.getUint16(Config.SUBSYSTEM_VENDOR, true),
      subsystem: view.getUint16(Config.SUBSYSTEM, true),
    };
  }

  /** The register of BAR `index`. */
  bar(index: number): number {
    return this.#view.getUint32(Config.BAR0 + 4 * index, true);
  }

  get emulated(): EmulatedCapabilities {
    const at = (id: number): number | undefined => {
      const found = this.#chain.find(capability => capability.id === id);
      return found === undefined ? undefined : found.offset / 4;
    };
    const words = this.#words;
    const express = at(Capability.EXPRESS);
    const msi = at(Capability.MSI);
    const msix = at(Capability.MSIX);
    return {
      express: express === undefined ? undefined : expressOf(words, express),
      msi: msi === undefined ? undefined : 2 ** Math.min(MsiLayout.fields.capable.get(words, msi), 5),
      msix:
        msix === undefined
          ? undefined
          : {
              vectors: MsixLayout.fields.last.get(words, msix) + 1,
              bar: MsixLayout.fields.tableBar.get(words, msix),
              tableOffset: MsixLayout.fields.tableOffset.get(words, msix) * 8,
            },
      pasid: this.#pasid(),
    };
  }

  /** All others. How long one is, only its own specification tells: it ends where the next one begins, as QEMU assumes. */
  get forwarded(): readonly ForwardedCapability[] {
    const own: readonly number[] = [Capability.EXPRESS, Capability.MSI, Capability.MSIX];
    const starts = this.#chain.map(({ offset }) => offset).sort((a, b) => a - b);
    return this.#chain
      .filter(({ id }) => !own.includes(id))
      .map(({ id, offset }) => {
        const end = starts.find(start => start > offset) ?? STANDARD_END;
        return { id, offset, bytes: end - offset };
      });
  }

  /** A chain that leaves the space, or comes back to where it was, ends there. */
  #walk(): { readonly id: number; readonly offset: number }[] {
    const chain: { readonly id: number; readonly offset: number }[] = [];
    let offset = this.#bytes[Config.CAPABILITIES]! & ~(CAPABILITY_ALIGN - 1);
    while (offset >= 0x40 && !chain.some(seen => seen.offset === offset)) {
      chain.push({ id: this.#bytes[offset]!, offset });
      offset = this.#bytes[offset + 1]! & ~(CAPABILITY_ALIGN - 1);
    }
    return chain;
  }

  get ats(): AtsOptions | undefined {
    const at = this.#extended(ExtendedCapability.ATS);
    if (at === undefined) return undefined;
    const { queueDepth, globalInvalidate } = AtsLayout.fields;
    const depth = queueDepth.get(this.#words, at);
    return { queueDepth: depth === 0 ? 32 : depth, globalInvalidate: globalInvalidate.get(this.#words, at) !== 0 };
  }

  get pri(): PriOptions | undefined {
    const at = this.#extended(ExtendedCapability.PRI);
    if (at === undefined) return undefined;
    const capacity = PriLayout.fields.capacity.get(this.#words, at) >>> 0;
    return {
      capacity: Math.min(Math.max(capacity, 1), PAGE_REQUEST_GROUPS),
      responsePasidRequired: PriLayout.fields.responsePasidRequired.get(this.#words, at) !== 0,
    };
  }

  #pasid(): EmulatedCapabilities['pasid'] {
    const at = this.#extended(ExtendedCapability.PASID);
    if (at === undefined) return undefined;
    const { width, executeSupported, privilegedSupported } = PasidLayout.fields;
    return {
      width: width.get(this.#words, at),
      execute: executeSupported.get(this.#words, at) !== 0,
      privileged: privilegedSupported.get(this.#words, at) !== 0,
    };
  }

  /** Index of the word at which an extended capability begins. */
  #extended(id: number): number | undefined {
    const seen = new Set<number>();
    for (let offset = STANDARD_END; offset < this.#bytes.length && offset >= STANDARD_END && !seen.has(offset);) {
      seen.add(offset);
      const header = this.#view.getUint32(offset, true);
      if ((header & 0xffff) === id) return offset / 4;
      offset = (header >>> 20) & ~(CAPABILITY_ALIGN - 1);
    }
    return undefined;
  }
}

function expressOf(words: Int32Array, at: number): NonNullable<EmulatedCapabilities['express']> {
  const { type, endToEndPrefixes } = ExpressLayout.fields;
  return { type: type.get(words, at) as ExpressType, endToEndPrefixes: endToEndPrefixes.get(words, at) !== 0 };
}
