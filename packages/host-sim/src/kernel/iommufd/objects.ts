/** The objects behind one open /dev/iommu, by id: who needs whom, and what happens to ids. */
import { Errno } from '@remora/core';
import type { FailureInjector } from '../../options.js';

/** What an id stands for: an I/O address space, a page table, a device ... */
export abstract class IommufdObject {
  /** For dumps: `ioas`, `hwpt-paging` ... */
  abstract readonly kind: string;
  /** Objects, attachments and open files that need this one: while there are any, it cannot be destroyed. */
  users = 0;
  #id = 0;

  /** 0 until it is in a table. */
  get id(): number {
    return this.#id;
  }

  /** The table tells which id it gave. */
  named(id: number): void {
    this.#id = id;
  }

  /** Gives back what it holds, also its claims (`users`) on others. Nobody needs it any more. */
  abstract release(): void;

  /** JSON-able, for dumps. */
  abstract state(): unknown;
}

/** A class of objects. */
export type ObjectClass<T extends IommufdObject> = abstract new (...args: never[]) => T;

/** Ids as Linux gives them: the lowest that is free, from 1 on; as many as there are, below 2^31. */
export class ObjectTable {
  readonly #fails: FailureInjector;
  /** Undefined: a tombstone. */
  readonly #objects = new Map<number, IommufdObject | undefined>();
  /** No id below it is free. */
  #lowest = 1;

  constructor(fails: FailureInjector) {
    this.#fails = fails;
  }

  /** Takes `object` in and names it: 0; or releases it: a negated errno. */
  add(object: IommufdObject): number {
    const failed = this.#fails('object id');
    if (failed !== 0) {
      object.release();
      return failed;
    }
    let id = this.#lowest;
    while (this.#objects.has(id)) id++;
    this.#lowest = id + 1;
    this.#objects.set(id, object);
    object.named(id);
    return 0;
  }

  /** The object with this id, of this class or one derived from it (IommufdObject: of any); -ENOENT for none, or one of another kind. */
  get<T extends IommufdObject>(id: number, type: ObjectClass<T>): T | number {
    const object = this.#objects.get(id);
    return object instanceof type ? object : -Errno.ENOENT;
  }

  get empty(): boolean {
    return this.#objects.size === 0;
  }

  /** All objects of this class, in the order of their making. */
  all<T extends IommufdObject>(type: ObjectClass<T>): T[] {
    return [...this.#objects.values()].filter((object): object is T => object instanceof type);
  }

  /** IOMMU_DESTROY: 0, -ENOENT, or -EBUSY while somebody needs it. */
  destroy(id: number): number {
    const object = this.#objects.get(id);
    if (object === undefined) return -Errno.ENOENT;
    if (object.users > 0) return -Errno.EBUSY;
    this.remove(object);
    return 0;
  }

  /** Takes an object out that nobody needs, and releases it: the kernel's own way, for what goes along with another. */
  remove(object: IommufdObject): void {
    this.#objects.delete(object.id);
    this.#lowest = Math.min(this.#lowest, object.id);
    object.release();
  }

  /** Releases an object whose id stays taken: user space may still name it, and must not meet another one under it. */
  bury(object: IommufdObject): void {
    this.#objects.set(object.id, undefined);
    object.release();
  }

  /** Everything goes: each object before those that it needs. */
  clear(): void {
    for (let some = true; some;) {
      some = false;
      for (const [id, object] of [...this.#objects].reverse()) {
        if (object !== undefined && object.users > 0) continue;
        some = true;
        if (object === undefined) this.#objects.delete(id);
        else this.remove(object);
      }
    }
    if (this.#objects.size > 0) throw new Error(`${this.#objects.size} objects of an iommufd need each other`);
  }

  state(): unknown {
    return [...this.#objects]
      .sort(([a], [b]) => a - b)
      .map(([id, object]) =>
        object === undefined
          ? { id, kind: 'tombstone' }
          : { id, kind: object.kind, users: object.users, state: object.state() },
      );
  }
}
