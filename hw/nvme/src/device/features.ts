/** Values of Get and Set Features (NVMe 1.4, 5.21). None is saveable: a controller reset brings the defaults back. */
import type { StateReader, StateWriter, VirtualClock } from '@remora/core';
import {
  FeatureCapability,
  FeatureId,
  HOST_ID_BYTES,
  Select,
  Status,
  TEMPERATURE,
  TIMESTAMP_BYTES,
  WARNING_TEMPERATURE,
  WARNING_TEMPERATURE_BIT,
} from '../spec/index.js';
import { type Command, Location } from './command.js';

interface Scalar {
  readonly fallback: number;
  /** Bits that can be set. */
  readonly mask: number;
  readonly namespaced?: boolean;
  /** The largest value of the lowest field, of 5 bits; the others are free. */
  readonly only?: number;
}

/** No limit on the arbitration burst. */
const NO_LIMIT = 7;

/** Features that are one number. */
const SCALARS: ReadonlyMap<number, Scalar> = new Map<number, Scalar>([
  [FeatureId.ARBITRATION, { fallback: NO_LIMIT, mask: 0xffff_ff07 }],
  [FeatureId.POWER_MANAGEMENT, { fallback: 0, mask: 0xff, only: 0x1f }],
  [FeatureId.ERROR_RECOVERY, { fallback: 0, mask: 0xffff, namespaced: true }],
  [FeatureId.VOLATILE_WRITE_CACHE, { fallback: 1, mask: 1 }],
  [FeatureId.INTERRUPT_COALESCING, { fallback: 0, mask: 0xffff }],
  [FeatureId.WRITE_ATOMICITY, { fallback: 0, mask: 1 }],
  [FeatureId.ASYNC_EVENT, { fallback: 0, mask: 0x3ff }],
]);
const SCALAR_IDS = [...SCALARS.keys()];
/** Those that are kept otherwise. */
const OTHERS: readonly number[] = [
  FeatureId.TEMPERATURE_THRESHOLD,
  FeatureId.NUMBER_OF_QUEUES,
  FeatureId.INTERRUPT_VECTOR,
  FeatureId.TIMESTAMP,
  FeatureId.HOST_IDENTIFIER,
];

const THRESHOLD_OVER = 0;
const THRESHOLD_UNDER = 1;
const ALL_SENSORS = 0xf;
const COALESCING_DISABLED = 0x1_0000;
/** Timestamp: it was set by the host. */
const SET_BY_HOST = 2;
const MS_NS = 1e6;
const MS_LIMIT = 2 ** 48;

export class Features {
  readonly #clock: VirtualClock;
  readonly #scalars = new Int32Array(SCALAR_IDS.length);
  /** Over, under. */
  readonly #thresholds = new Int32Array(2);
  /** Of each vector, whether coalescing is disabled. */
  readonly #vectors: Int32Array;
  readonly #hostId = new Uint8Array(HOST_ID_BYTES);
  /** Milliseconds, and when it was them. */
  #timestamp = 0;
  #stampedAt = 0;
  #stamped = false;
  readonly #queues: number;

  /** `queues`: I/O queue pairs, which are allocated whatever the host asks for. */
  constructor(clock: VirtualClock, queues: number, vectors: number) {
    this.#clock = clock;
    this.#queues = (queues - 1) * 0x1_0001;
    this.#vectors = new Int32Array(vectors);
    this.reset();
  }

  has(id: number): boolean {
    return SCALARS.has(id) || OTHERS.includes(id);
  }

  namespaced(id: number): boolean {
    return SCALARS.get(id)?.namespaced === true;
  }

  /** What Select.CAPABILITIES tells. */
  capabilities(id: number): number {
    return FeatureCapability.CHANGEABLE | (this.namespaced(id) ? FeatureCapability.NAMESPACE_SPECIFIC : 0);
  }

  /** A feature of one number. */
  value(id: number): number {
    return this.#scalars[SCALAR_IDS.indexOf(id)]! >>> 0;
  }

  /** Critical warnings: the temperature, which never changes, is beyond a threshold. */
  get warnings(): number {
    const hot = TEMPERATURE >= this.#thresholds[THRESHOLD_OVER]!;
    return hot || TEMPERATURE <= this.#thresholds[THRESHOLD_UNDER]! ? WARNING_TEMPERATURE_BIT : 0;
  }

  /** Fills `command.result`; `select` is not CAPABILITIES. Returns a status. */
  get(command: Command, id: number, select: number): number {
    const current = select === Select.CURRENT;
    const dword11 = command.dword(11);
    const scalar = SCALARS.get(id);
    if (scalar !== undefined) {
      command.result = current ? this.value(id) : scalar.fallback;
      return Status.SUCCESS;
    }
    switch (id) {
      case FeatureId.NUMBER_OF_QUEUES:
        command.result = this.#queues;
        return Status.SUCCESS;
      case FeatureId.TEMPERATURE_THRESHOLD: {
        const which = thresholdOf(dword11);
        if (which === undefined || sensorOf(dword11) !== 0) return command.fail(Status.INVALID_FIELD, Location.CDW11);
        command.result = current ? this.#thresholds[which]! : DEFAULT_THRESHOLDS[which]!;
        return Status.SUCCESS;
      }
      case FeatureId.INTERRUPT_VECTOR: {
        const vector = dword11 & 0xffff;
        if (vector >= this.#vectors.length) return command.fail(Status.INVALID_FIELD, Location.CDW11);
        const disabled = current ? this.#vectors[vector]! : defaultCoalescing(vector);
        command.result = vector | disabled;
        return Status.SUCCESS;
      }
      default:
        return Status.SUCCESS;
    }
  }

  /** Returns a status. What has data is set by `setData`. */
  set(command: Command, id: number): number {
    const value = command.dword(11);
    const scalar = SCALARS.get(id);
    if (scalar !== undefined) {
      if (scalar.only !== undefined && (value & scalar.only) !== 0)
        return command.fail(Status.INVALID_FIELD, Location.CDW11);
      this.#scalars[SCALAR_IDS.indexOf(id)] = value & scalar.mask;
      return Status.SUCCESS;
    }
    switch (id) {
      case FeatureId.NUMBER_OF_QUEUES:
        if ((value & 0xffff) === 0xffff || value >>> 16 === 0xffff)
          return command.fail(Status.INVALID_FIELD, Location.CDW11);
        command.result = this.#queues;
        return Status.SUCCESS;
      case FeatureId.TEMPERATURE_THRESHOLD: {
        const which = thresholdOf(value);
        const sensor = sensorOf(value);
        if (which === undefined || (sensor !== 0 && sensor !== ALL_SENSORS))
          return command.fail(Status.INVALID_FIELD, Location.CDW11);
        this.#thresholds[which] = value & 0xffff;
        return Status.SUCCESS;
      }
      case FeatureId.INTERRUPT_VECTOR: {
        const vector = value & 0xffff;
        if (vector >= this.#vectors.length) return command.fail(Status.INVALID_FIELD, Location.CDW11);
        this.#vectors[vector] = value & COALESCING_DISABLED;
        return Status.SUCCESS;
      }
      default:
        return Status.SUCCESS;
    }
  }

  /** Bytes that go with the feature; 0 if none do. */
  dataBytes(id: number, dword11: number): number {
    if (id === FeatureId.TIMESTAMP) return TIMESTAMP_BYTES;
    if (id !== FeatureId.HOST_IDENTIFIER) return 0;
    return (dword11 & 1) !== 0 ? HOST_ID_BYTES : HOST_ID_BYTES / 2;
  }

  /** Fills `out` with what goes with the feature. */
  getData(id: number, select: number, out: Uint8Array): void {
    out.fill(0);
    if (select !== Select.CURRENT) return;
    if (id === FeatureId.HOST_IDENTIFIER) {
      out.set(this.#hostId.subarray(0, out.length));
      return;
    }
    const elapsed = Math.floor((this.#clock.now - this.#stampedAt) / MS_NS);
    const now = (this.#timestamp + elapsed) % MS_LIMIT;
    const view = new DataView(out.buffer, out.byteOffset, out.length);
    view.setUint32(0, now % 2 ** 32, true);
    view.setUint16(4, Math.floor(now / 2 ** 32), true);
    view.setUint8(6, this.#stamped ? SET_BY_HOST : 0);
  }

  setData(id: number, from: Uint8Array): void {
    if (id === FeatureId.HOST_IDENTIFIER) {
      this.#hostId.fill(0);
      this.#hostId.set(from);
      return;
    }
    const view = new DataView(from.buffer, from.byteOffset, from.length);
    this.#timestamp = view.getUint32(0, true) + view.getUint16(4, true) * 2 ** 32;
    this.#stampedAt = this.#clock.now;
    this.#stamped = true;
  }

  reset(): void {
    for (const [index, { fallback }] of [...SCALARS.values()].entries()) this.#scalars[index] = fallback;
    this.#thresholds.set(DEFAULT_THRESHOLDS);
    for (let vector = 0; vector < this.#vectors.length; vector++) this.#vectors[vector] = defaultCoalescing(vector);
    this.#hostId.fill(0);
    this.#timestamp = 0;
    this.#stampedAt = this.#clock.now;
    this.#stamped = false;
  }

  save(into: StateWriter): void {
    into.words('values', this.#scalars).words('thresholds', this.#thresholds).words('vectors', this.#vectors);
    into.bytes('host', this.#hostId);
    into.integer('timestamp', this.#timestamp).integer('stamped-for', this.#clock.now - this.#stampedAt);
    into.flag('stamped', this.#stamped);
  }

  load(from: StateReader): void {
    from.words('values', this.#scalars);
    from.words('thresholds', this.#thresholds);
    from.words('vectors', this.#vectors);
    from.bytes('host', this.#hostId);
    this.#timestamp = from.integer('timestamp', { max: MS_LIMIT - 1 });
    this.#stampedAt = this.#clock.now - from.integer('stamped-for');
    this.#stamped = from.flag('stamped');
  }
}

const DEFAULT_THRESHOLDS = Int32Array.of(WARNING_TEMPERATURE, 0);

/** The threshold that dword 11 means; undefined for a reserved one. */
function thresholdOf(dword11: number): number | undefined {
  const which = (dword11 >>> 20) & 3;
  return which <= THRESHOLD_UNDER ? which : undefined;
}

/** 0: the composite temperature, which is all that there is. */
function sensorOf(dword11: number): number {
  return (dword11 >>> 16) & 0xf;
}

/** The admin queue's vector is not coalesced. */
function defaultCoalescing(vector: number): number {
  return vector === 0 ? COALESCING_DISABLED : 0;
}
