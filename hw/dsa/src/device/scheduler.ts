/** Work queues and the engines that take from them: a group's engines from a group's queues (DSA 3.2). */
import { NO_PASID, type StateReader, type StateWriter, type Timer, type VirtualClock } from '@remora/core';
import { Descriptor, DeviceState, Operation, QueueConfig, Status } from '../spec/index.js';
import { Engine, type EngineParts } from './engine.js';
import type { Registers } from './registers.js';
import { reportSoftwareError } from './software-error.js';
import { loadWork, saveWork, type Work } from './work.js';

/** Descriptors that are begun in one go. More have to wait, so that work that makes work cannot hold the machine. */
const BUDGET = 1024;
const PAUSE_NS = 1000;

export class Scheduler {
  readonly #registers: Registers;
  readonly #clock: VirtualClock;
  readonly #queues: Work[][];
  readonly #engines: readonly Engine[];
  readonly #settled: () => void;
  #dispatching = false;
  #timer: Timer | undefined;

  /** `settled` is called whenever all has been done that can be for now. */
  constructor(parts: Omit<EngineParts, 'resumed'>, clock: VirtualClock, settled: () => void) {
    this.#registers = parts.registers;
    this.#clock = clock;
    this.#settled = settled;
    this.#queues = Array.from({ length: this.#registers.queues }, () => []);
    const resumed = (engine: Engine): void => {
      engine.run();
      this.dispatch();
    };
    this.#engines = Array.from({ length: this.#registers.engines }, () => new Engine({ ...parts, resumed }));
  }

  /** A descriptor came to a portal of `queue`; `limited`: to one that counts against the threshold. */
  submit(queue: number, words: Int32Array, limited: boolean): void {
    const registers = this.#registers;
    const at = registers.queueAt(queue);
    const { dedicated, size, threshold, pasid, pasidEnable, privileged } = QueueConfig.fields;
    if (registers.state !== DeviceState.ENABLED || !registers.queueEnabled(queue)) {
      reportSoftwareError(registers, { error: Status.QUEUE_NOT_ENABLED, queue });
      return;
    }
    const own = dedicated.get(registers.words, at) !== 0;
    const room = limited && !own ? threshold.get(registers.words, at) : size.get(registers.words, at);
    if (this.occupancy(queue) >= room) {
      // A shared queue answers "retry", which software sees.
      if (own) reportSoftwareError(registers, { error: Status.QUEUE_FULL, queue });
      return;
    }
    const tagged = pasidEnable.get(registers.words, at) !== 0;
    const source = own ? pasid.get(registers.words, at) : Descriptor.fields.pasid.get(words, 0);
    const level = own ? privileged.get(registers.words, at) : Descriptor.fields.privileged.get(words, 0);
    this.#queues[queue]!.push({
      queue,
      words: words.slice(),
      pasid: tagged ? source : NO_PASID,
      privileged: level !== 0,
    });
    this.dispatch();
  }

  /** Descriptors that a queue holds or that are being worked on. */
  occupancy(queue: number): number {
    const working = this.#engines.filter(engine => engine.work?.queue === queue).length;
    return this.#queues[queue]!.length + working;
  }

  /** Whether there is work that `of` chooses. */
  busy(of: (work: Work) => boolean): boolean {
    return (
      this.#engines.some(({ work }) => work !== undefined && of(work)) || this.#queues.some(works => works.some(of))
    );
  }

  /** Gives up what `of` chooses. */
  abort(of: (work: Work) => boolean): void {
    for (const [queue, works] of this.#queues.entries()) this.#queues[queue] = works.filter(work => !of(work));
    for (const engine of this.#engines) if (engine.work !== undefined && of(engine.work)) engine.cancel();
  }

  /** Begins what can be begun. */
  dispatch(): void {
    if (this.#dispatching) return;
    this.#dispatching = true;
    try {
      let begun = 0;
      while (this.#beginOne()) {
        if (++begun < BUDGET) continue;
        this.#timer ??= this.#clock.after(PAUSE_NS, this.#unpause);
        break;
      }
    } finally {
      this.#dispatching = false;
    }
    this.#settled();
  }

  reset(): void {
    this.abort(() => true);
    this.#timer?.cancel();
    this.#timer = undefined;
  }

  save(into: StateWriter): void {
    into.timer('pause', this.#timer, this.#clock.now);
    into.list('queued', this.#queues.flat(), saveWork);
    into.list('engines', this.#engines, (each, engine) => engine.save(each));
  }

  load(from: StateReader): void {
    this.reset();
    this.#timer = from.timer('pause', this.#clock, this.#unpause);
    for (const each of from.list('queued')) {
      const work = loadWork(each, this.#queues.length);
      this.#queues[work.queue]!.push(work);
    }
    const engines = from.list('engines', this.#engines.length);
    if (engines.length !== this.#engines.length)
      throw from.problem('engines', `is not ${this.#engines.length} engines`);
    for (const [index, engine] of this.#engines.entries()) engine.load(engines[index]!, this.#queues.length);
  }

  readonly #unpause = (): void => {
    this.#timer = undefined;
    this.dispatch();
  };

  /** The most urgent descriptor for which an engine is free. */
  #beginOne(): boolean {
    let best = -1;
    let urgency = -1;
    let free: Engine | undefined;
    for (let queue = 0; queue < this.#queues.length; queue++) {
      const at = this.#registers.queueAt(queue);
      const priority = QueueConfig.fields.priority.get(this.#registers.words, at);
      if (priority <= urgency || !this.#ready(queue)) continue;
      const engine = this.#freeEngine(queue);
      if (engine === undefined) continue;
      best = queue;
      urgency = priority;
      free = engine;
    }
    if (free === undefined) return false;
    free.start(this.#queues[best]!.shift()!);
    return true;
  }

  /** Whether the first descriptor of a queue may be begun: a drain waits for those before it. */
  #ready(queue: number): boolean {
    const first = this.#queues[queue]![0];
    if (first === undefined) return false;
    if (Descriptor.fields.operation.get(first.words, 0) !== Operation.DRAIN) return true;
    return this.#engines.every(engine => engine.work?.queue !== queue);
  }

  #freeEngine(queue: number): Engine | undefined {
    const group = this.#registers.groupOf(queue);
    if (group < 0) return undefined;
    const engines = this.#registers.enginesOf(group);
    return this.#engines.find((engine, index) => ((engines >>> index) & 1) !== 0 && engine.work === undefined);
  }
}
