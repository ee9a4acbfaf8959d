/** Which domain ids of a unit are in use, and by how many domains: those of one VM may share one (vsva.md 5.2, B07). */
import { Errno } from '@remora/core';

export class DomainIds {
  readonly #users = new Map<number, number>();

  /** The lowest id from `first` on that nobody has. */
  free(first: number): number {
    let id = first;
    while (this.#users.has(id)) id++;
    return id;
  }

  hold(id: number): void {
    this.#users.set(id, (this.#users.get(id) ?? 0) + 1);
  }

  /** One user less; the last one makes it free. */
  drop(id: number): void {
    const users = this.#users.get(id)! - 1;
    if (users === 0) this.#users.delete(id);
    else this.#users.set(id, users);
  }

  /** A domain that has `from` has `to` from now on. -EBUSY if others have that and do not `share` it; then nothing has changed. */
  move(from: number, to: number, share: boolean): number {
    if (from === to) return 0;
    if (this.#users.has(to) && !share) return -Errno.EBUSY;
    this.hold(to);
    this.drop(from);
    return 0;
  }
}
