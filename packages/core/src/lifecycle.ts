import { RESET_PHASES } from './device.js';
import type { Device } from './device.js';
import { trackDisposable, untrackDisposable } from './leaks.js';

export type LifecycleState = 'created' | 'realized' | 'unplugged' | 'disposed';

/** From each state, the states that may follow. A machine that ends disposes of its devices without unplugging them. */
const TRANSITIONS: Readonly<Record<LifecycleState, readonly LifecycleState[]>> = {
  created: ['realized', 'disposed'],
  realized: ['unplugged', 'disposed'],
  unplugged: ['disposed'],
  disposed: [],
};

/**
 * The life of one device and of those behind it (a bridge's functions, a bus's devices). Drives the device's methods and asserts
 * that each transition is legal: an Error from here is a mistake in Remora or in a plug-in, never the guest's or the user's.
 */
export class Lifecycle implements Disposable {
  readonly device: Device;
  readonly parent: Lifecycle | undefined;
  readonly #children: Lifecycle[] = [];
  #state: LifecycleState = 'created';
  /** The transition in progress: no other may begin inside it. */
  #during: string | undefined;

  /** @throws Error if `parent` is not realized or about to be. */
  constructor(device: Device, parent?: Lifecycle) {
    if (parent !== undefined && parent.#state !== 'created' && parent.#state !== 'realized') {
      throw new Error(`${device.name}: cannot be created behind ${parent.device.name}, which is ${parent.#state}`);
    }
    this.device = device;
    this.parent = parent;
    if (parent !== undefined) parent.#children.push(this);
    trackDisposable(this, `device ${device.name}`);
  }

  get state(): LifecycleState {
    return this.#state;
  }

  /** The devices directly behind this one, oldest first. */
  get children(): readonly Lifecycle[] {
    return this.#children;
  }

  /** Makes the device visible. If that throws, it remains created, and may be tried again or disposed of. */
  realize(): void {
    this.#assertLegal('realized');
    const above = this.parent;
    if (above !== undefined && above.#state !== 'realized' && above.#during !== 'realize') {
      throw new Error(`${this.device.name}: cannot be realized behind ${above.device.name}, which is ${above.#state}`);
    }
    this.#run('realize', () => this.device.realize?.());
    this.#state = 'realized';
  }

  /** Resets this device and all behind it. */
  reset(): void {
    Lifecycle.resetAll([this]);
  }

  /** Hot removal: of the devices behind first, newest first, then of this one. Goes on if one throws; then throws in turn. */
  unplug(): void {
    this.#assertLegal('unplugged');
    const failures: unknown[] = [];
    for (const child of [...this.#children].reverse()) {
      if (child.#state === 'realized') attempt(() => child.unplug(), failures);
    }
    attempt(() => this.#run('unplug', () => this.device.unplug?.()), failures);
    this.#state = 'unplugged';
    rethrow(failures, `${this.device.name}: unplug`);
  }

  /** Disposes of the devices behind, newest first, and of this one. A second call does nothing. */
  [Symbol.dispose](): void {
    if (this.#state === 'disposed') return;
    this.#assertLegal('disposed');
    const failures: unknown[] = [];
    for (const child of [...this.#children].reverse()) attempt(() => child[Symbol.dispose](), failures);
    attempt(() => this.#run('dispose', () => this.device[Symbol.dispose]()), failures);
    this.#state = 'disposed';
    untrackDisposable(this);
    if (this.parent !== undefined) remove(this.parent.#children, this);
    rethrow(failures, `${this.device.name}: dispose`);
  }

  #assertLegal(next: LifecycleState): void {
    const { name } = this.device;
    if (this.#during !== undefined) throw new Error(`${name}: cannot become ${next} during ${this.#during}`);
    if (!TRANSITIONS[this.#state].includes(next))
      throw new Error(`${name} is ${this.#state}: it cannot become ${next}`);
  }

  #run(what: string, action: () => void): void {
    this.#during = what;
    try {
      action();
    } finally {
      this.#during = undefined;
    }
  }

  /** Adds the realized devices from here down: those behind a device before the device itself, as QEMU resets them. */
  #collectRealized(into: Lifecycle[]): void {
    if (this.#state !== 'realized') return;
    for (const child of this.#children) child.#collectRealized(into);
    into.push(this);
  }

  /**
   * Resets several trees as one: every device enters before any holds, and every one holds before any exits. Devices that are not
   * realized are left out.
   */
  static resetAll(roots: readonly Lifecycle[]): void {
    const devices: Lifecycle[] = [];
    for (const root of roots) root.#collectRealized(devices);
    const busy = devices.find(node => node.#during !== undefined);
    if (busy !== undefined) throw new Error(`${busy.device.name}: cannot be reset during ${busy.#during}`);
    for (const node of devices) node.#during = 'reset';
    try {
      for (const phase of RESET_PHASES) for (const node of devices) node.device.reset?.(phase);
    } finally {
      for (const node of devices) node.#during = undefined;
    }
  }
}

function attempt(action: () => void, failures: unknown[]): void {
  try {
    action();
  } catch (failure) {
    failures.push(failure);
  }
}

function rethrow(failures: readonly unknown[], what: string): void {
  if (failures.length === 1) throw failures[0];
  if (failures.length > 1) throw new AggregateError(failures, `${what} failed`);
}

function remove<T>(items: T[], item: T): void {
  const index = items.indexOf(item);
  if (index >= 0) items.splice(index, 1);
}
