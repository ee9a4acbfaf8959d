/**
 * Completion queues' interrupts (NVMe 1.4, 7.5). MSI-X: one message whenever completions were posted. MSI: so, too, unless INTMS masks
 * the vector; and one when completions are left after the mask is lifted or after some were taken, so that none is ever forgotten. Without
 * either: INTA, asserted while a queue has completions that INTMS does not mask. Nothing is held back to be sent together: coalescing is
 * allowed, not asked for.
 */
import { Config, type Msi, MsiLayout, type Msix, type PciFunction, Status as PciStatus } from '@remora/pci';
import type { CompletionQueue } from './queues.js';

const MASKABLE = 32;

export interface InterruptOptions {
  readonly msi: boolean;
  /** Vectors that MSI offers: a power of two up to 32. */
  readonly msiVectors: number;
  readonly msix: boolean;
  readonly msixVectors: number;
  readonly msixBar: number;
}

export class Interrupts {
  /** INTMS: a bit for each vector. */
  mask = 0;
  readonly #fn: PciFunction;
  readonly #msi: Msi | undefined;
  readonly #msix: Msix | undefined;
  readonly #queues: readonly (CompletionQueue | undefined)[];

  /** `queues`: the completion queues, as they are at any time. */
  constructor(fn: PciFunction, options: InterruptOptions, queues: readonly (CompletionQueue | undefined)[]) {
    this.#fn = fn;
    this.#queues = queues;
    this.#msix = options.msix ? fn.enableMsix(options.msixVectors, options.msixBar) : undefined;
    this.#msi = options.msi ? fn.enableMsi(options.msiVectors) : undefined;
  }

  /** Whether a completion queue may use `vector` as software has set things up. */
  has(vector: number): boolean {
    if (this.#msix?.enabled === true) return vector < this.#msix.vectors;
    if (this.#msi?.enabled !== true) return vector === 0;
    return vector < 1 << MsiLayout.fields.granted.get(this.#fn.config.words, this.#msi.offset / 4);
  }

  /** Completions were posted. */
  posted(queue: CompletionQueue): void {
    this.#drivePin();
    if (queue.interrupts && !this.#masked(queue.vector)) this.#fn.msi(queue.vector);
  }

  /** The host has taken completions. */
  taken(queue: CompletionQueue): void {
    this.#drivePin();
    if (!queue.empty && this.#msix?.enabled !== true) this.posted(queue);
  }

  /** INTMS. */
  maskOff(vectors: number): void {
    this.mask |= vectors;
    this.#drivePin();
  }

  /** INTMC: vectors whose completions wait are told now. */
  unmask(vectors: number): void {
    const lifted = this.mask & vectors;
    this.mask &= ~vectors;
    this.#drivePin();
    if (this.#msi?.enabled !== true || this.#msix?.enabled === true) return;
    for (let vector = 0; vector < MASKABLE; vector++) {
      if ((lifted >>> vector) & 1 && this.#waiting(vector)) this.#fn.msi(vector);
    }
  }

  /** The queues are gone, or are others. */
  changed(): void {
    this.#drivePin();
  }

  #waiting(vector: number): boolean {
    return this.#queues.some(queue => queue?.interrupts === true && queue.vector === vector && !queue.empty);
  }

  /** INTMS does not exist for MSI-X, which has masks of its own. */
  #masked(vector: number): boolean {
    return this.#msix?.enabled !== true && vector < MASKABLE && ((this.mask >>> vector) & 1) !== 0;
  }

  /** A level, of vector 0: a driver that has changed to messages has none. */
  #drivePin(): void {
    const level = !this.#fn.messagesEnabled && (this.mask & 1) === 0 && this.#waiting(0);
    if (level === this.#pin) return;
    this.#fn.intx.set(level);
  }

  /** Whether the pin is asserted: it stands in the function's STATUS. */
  get #pin(): boolean {
    return (this.#fn.config.get16(Config.STATUS) & PciStatus.INTERRUPT) !== 0;
  }
}
