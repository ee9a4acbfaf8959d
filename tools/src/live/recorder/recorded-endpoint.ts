/** A function that a unit tells what to forget, and answers its page requests, with somebody who listens. */
import type { VtdEnvironment } from '@hw/intel-iommu';
import { invalidationDoneText, deviceAnswerText, pageResponseText } from '../../replay/ats-text.js';
import type { AtsEndpoint } from '@remora/iommu';
import type { Journal } from './journal.js';

/** How long a function may take to complete an invalidation: one minute (PCIe 10.3.1). */
const TIMEOUT_NS = 60_000_000_000;

export class RecordedEndpoints {
  readonly #journal: Journal;
  readonly #clock: VtdEnvironment['clock'];
  /** Numbers of the invalidations that are not complete. */
  readonly #later = new Set<number>();
  #count = 0;

  constructor(journal: Journal, clock: VtdEnvironment['clock']) {
    this.#journal = journal;
    this.#clock = clock;
  }

  /** Nothing is awaited any more. */
  reset(): void {
    this.#later.clear();
  }

  recorded(requesterId: number, below: AtsEndpoint | undefined): AtsEndpoint | undefined {
    if (below === undefined) {
      this.#journal.spoil('a function was to be told something that is not there');
      return undefined;
    }
    return {
      invalidate: (pasid, global, hi, lo, shift, completed) => {
        const number = ++this.#count;
        let within: boolean | undefined = false;
        const done = below.invalidate(pasid, global, hi, lo, shift, () => {
          if (within === undefined) {
            this.#completed(number, completed);
            return;
          }
          // It has done at once what it is told.
          within = true;
          completed();
        });
        const later = done || within ? undefined : number;
        within = undefined;
        this.#journal.amend(deviceAnswerText(global, later));
        if (later !== undefined) this.#await(later);
        return done;
      },
      pageResponse: (pasid, group, code) =>
        this.#journal.telling(
          () => below.pageResponse(pasid, group, code),
          () => pageResponseText(requesterId, pasid, group, code),
        ),
    };
  }

  #completed(number: number, completed: () => void): void {
    this.#later.delete(number);
    this.#journal.during('answer', completed, () => invalidationDoneText(number));
  }

  /** A replay has no clock. */
  #await(number: number): void {
    this.#later.add(number);
    this.#clock?.after(TIMEOUT_NS, () => {
      if (this.#later.has(number)) this.#journal.spoil('a device did not complete an invalidation in time');
    });
  }
}
