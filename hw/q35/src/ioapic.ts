/**
 * The I/O APIC: 24 pins, each with a redirection table entry that says what message an interrupt becomes. Reference: 82093AA
 * datasheet, VT-d 5.1.5.1 for the remappable format. Pins are logical: asserted or not, whatever the entry's polarity says.
 */
import { type Inspector, type MmioOps, Region, type StateReader, type StateWriter } from '@remora/core';
import type { SendMessage } from '@remora/pci';
import {
  IOAPIC_BYTES,
  IOAPIC_PINS,
  IOAPIC_VERSION,
  IoApicId,
  IoApicMessage,
  IoApicOffset,
  IoApicRegister,
  IoApicVersion,
  RedirectionEntry,
  RemappableIoApicMessage,
  RemappableRedirectionEntry,
} from './ioapic-spec.js';

const VERSION = IoApicVersion.encode({ version: IOAPIC_VERSION, last: IOAPIC_PINS - 1 })[0]!;
const INTERRUPT_ADDRESS = 0xfee;
const ENTRY_WORDS = RedirectionEntry.words;
const ALL_MASKED = RedirectionEntry.encode({ mask: 1 });
/** Bits of an entry that software writes: all that are defined but the two status bits; bits 63:49 in either format. */
const WRITABLE = Int32Array.of(
  ~RedirectionEntry.reserved[0]! & ~RedirectionEntry.encode({ status: 1, remoteIrr: 1 })[0]!,
  ~RemappableRedirectionEntry.reserved[1]!,
);
const ID_BITS = ~IoApicId.reserved[0]!;
const REGISTER_BITS = 0xff;

const { vector, remoteIrr, trigger, mask, format } = RedirectionEntry.fields;

export class IoApic {
  readonly region: Region;
  readonly #send: SendMessage;
  readonly #entries = new Int32Array(IOAPIC_PINS * ENTRY_WORDS);
  readonly #asserted = new Uint8Array(IOAPIC_PINS);
  readonly #message = new Int32Array(IoApicMessage.words);
  readonly #watchers = new Set<(pin: number, asserted: boolean) => void>();
  #select = 0;
  #id = 0;

  /** `send` takes its messages, in the name of IOAPIC_REQUESTER. */
  constructor(send: SendMessage) {
    this.#send = send;
    this.region = Region.mmio('ioapic', IOAPIC_BYTES, this.#ops);
    this.reset();
  }

  /** Every pin masked. What is asserted stays so. */
  reset(): void {
    this.#select = 0;
    this.#id = 0;
    for (let pin = 0; pin < IOAPIC_PINS; pin++) this.#entries.set(ALL_MASKED, pin * ENTRY_WORDS);
  }

  /**
   * A device asserts pin `pin`, or does so no longer. An edge on a masked pin is lost; a level waits until the pin is unmasked and the
   * interrupt before has ended. @throws RangeError if there is no such pin.
   */
  set(pin: number, asserted: boolean): void {
    if (!Number.isInteger(pin) || pin < 0 || pin >= IOAPIC_PINS) throw new RangeError(`the I/O APIC has no pin ${pin}`);
    const rises = asserted && this.#asserted[pin] === 0;
    const changes = asserted !== (this.#asserted[pin] === 1);
    this.#asserted[pin] = asserted ? 1 : 0;
    const at = pin * ENTRY_WORDS;
    if (trigger.get(this.#entries, at) === 1) this.#signalLevel(pin);
    else if (rises && mask.get(this.#entries, at) === 0) this.#signal(at);
    if (changes) for (const changed of this.#watchers) changed(pin, asserted);
  }

  /** Whether anybody asserts pin `pin`. */
  asserted(pin: number): boolean {
    return this.#asserted[pin] === 1;
  }

  /** Calls `changed` after each pin that is asserted, or is so no longer, until the result is disposed of. */
  watch(changed: (pin: number, asserted: boolean) => void): Disposable {
    this.#watchers.add(changed);
    return { [Symbol.dispose]: () => void this.#watchers.delete(changed) };
  }

  /** A processor ends `ended`: level triggered interrupts with that vector may be sent again, and are if they are still asserted. */
  endOfInterrupt(ended: number): void {
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      const at = pin * ENTRY_WORDS;
      if (vector.get(this.#entries, at) !== ended || remoteIrr.get(this.#entries, at) === 0) continue;
      remoteIrr.set(this.#entries, at, 0);
      this.#signalLevel(pin);
    }
  }

  inspect(into: Inspector): void {
    for (let pin = 0; pin < IOAPIC_PINS; pin++) {
      const at = pin * ENTRY_WORDS;
      const remappable = format.get(this.#entries, at) === 1;
      const type = remappable ? RemappableRedirectionEntry : RedirectionEntry;
      if (mask.get(this.#entries, at) === 0) into.record(`pin${pin}`, type, this.#entries, at);
    }
  }

  save(into: StateWriter): void {
    into.integer('select', this.#select).integer('id', this.#id);
    into.words('entries', this.#entries).bytes('asserted', this.#asserted);
  }

  /** Nothing is signalled: what is asserted was so before. */
  load(from: StateReader): void {
    this.#select = from.integer('select', { max: REGISTER_BITS });
    this.#id = from.integer('id', { min: -(2 ** 31), max: 2 ** 32 - 1 });
    from.words('entries', this.#entries);
    from.bytes('asserted', this.#asserted);
  }

  readonly #ops: MmioOps = {
    valid: { min: 4, max: 4 },
    impl: { min: 4, max: 4 },
    // A message may be handled while the write that sent it is still being carried out.
    reentrant: true,
    read: offset => {
      if (offset === IoApicOffset.SELECT) return this.#select;
      return offset === IoApicOffset.DATA ? this.#read(this.#select) : 0;
    },
    write: (offset, value) => {
      if (offset === IoApicOffset.SELECT) this.#select = value & REGISTER_BITS;
      else if (offset === IoApicOffset.DATA) this.#write(this.#select, value);
      else if (offset === IoApicOffset.EOI) this.endOfInterrupt(value & REGISTER_BITS);
    },
  };

  #read(register: number): number {
    if (register === IoApicRegister.ID || register === IoApicRegister.ARBITRATION) return this.#id;
    if (register === IoApicRegister.VERSION) return VERSION;
    const word = register - IoApicRegister.REDIRECTION;
    return word >= 0 && word < this.#entries.length ? this.#entries[word]! >>> 0 : 0;
  }

  #write(register: number, value: number): void {
    if (register === IoApicRegister.ID) this.#id = value & ID_BITS;
    const word = register - IoApicRegister.REDIRECTION;
    if (word < 0 || word >= this.#entries.length) return;
    const writable = WRITABLE[word % ENTRY_WORDS]!;
    this.#entries[word] = (this.#entries[word]! & ~writable) | (value & writable);
    const pin = Math.floor(word / ENTRY_WORDS);
    // An edge is never in service: software gets rid of a stuck remote IRR by changing the trigger mode.
    if (trigger.get(this.#entries, pin * ENTRY_WORDS) === 0) remoteIrr.set(this.#entries, pin * ENTRY_WORDS, 0);
    else this.#signalLevel(pin);
  }

  #signalLevel(pin: number): void {
    const at = pin * ENTRY_WORDS;
    const entries = this.#entries;
    if (this.#asserted[pin] === 0 || trigger.get(entries, at) === 0 || mask.get(entries, at) === 1) return;
    if (remoteIrr.get(entries, at) === 1) return;
    remoteIrr.set(entries, at, 1);
    this.#signal(at);
  }

  /** Sends the message of the entry at word `at`. */
  #signal(at: number): void {
    const entries = this.#entries;
    const message = this.#message.fill(0);
    const level = trigger.get(entries, at);
    if (format.get(entries, at) === 1) {
      const from = RemappableRedirectionEntry.fields;
      const to = RemappableIoApicMessage.fields;
      to.format.set(message, 0, 1);
      to.indexLow.set(message, 0, from.indexLow.get(entries, at));
      to.indexHigh.set(message, 0, from.indexHigh.get(entries, at));
    } else {
      const from = RedirectionEntry.fields;
      const to = IoApicMessage.fields;
      to.destination.set(message, 0, from.destination.get(entries, at));
      to.dm.set(message, 0, from.dm.get(entries, at));
      to.dlm.set(message, 0, from.dlm.get(entries, at));
    }
    const { head, vector: number, assert, trigger: mode } = IoApicMessage.fields;
    head.set(message, 0, INTERRUPT_ADDRESS);
    number.set(message, 0, vector.get(entries, at));
    assert.set(message, 0, level);
    mode.set(message, 0, level);
    this.#send(0, message[0]!, message[1]!);
  }
}
