/**
 * In which order devices are realized. The order in which they were listed never counts: what a device needs (an IOMMU above
 * it, a bridge's bus) comes first, and among devices that need nothing of each other a canonical key decides.
 */
import { ConfigError } from '@remora/core';

/** What the sorter has to know of a device. */
export interface Ordered {
  /** Where the device was listed, for messages: `devices[1]`. */
  readonly path: string;
  /** For messages: `intel-iommu`. */
  readonly name: string;
  /** Equal for devices that are interchangeable; otherwise decides between devices that do not need each other. */
  readonly key: string;
  /** What is there once this device is realized: `iommu`, `bus:rp1`. */
  readonly provides: readonly string[];
  /** What must be there before, if any device provides it. */
  readonly after: readonly string[];
}

/**
 * `devices` in realization order.
 * @throws ConfigError if devices need each other in a circle; the message shows the circle.
 */
export function inRealizationOrder<D extends Ordered>(devices: readonly D[]): D[] {
  const providers = new Map<string, D[]>();
  for (const device of devices) {
    for (const need of device.provides) providers.set(need, [...(providers.get(need) ?? []), device]);
  }
  const needs = (device: D): D[] => device.after.flatMap(need => providers.get(need) ?? []);

  const waiting = devices.toSorted((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  const done = new Set<D>();
  const order: D[] = [];
  while (waiting.length > 0) {
    const at = waiting.findIndex(device => needs(device).every(need => done.has(need)));
    if (at < 0) throw circle(waiting, device => needs(device).find(need => !done.has(need))!);
    const [next] = waiting.splice(at, 1) as [D];
    done.add(next);
    order.push(next);
  }
  return order;
}

/** Every device of `waiting` waits for another one of them, so following the needs must come round. */
function circle<D extends Ordered>(waiting: readonly D[], need: (device: D) => D): ConfigError {
  const trail: D[] = [];
  let device = waiting[0]!;
  while (!trail.includes(device)) {
    trail.push(device);
    device = need(device);
  }
  const round = [...trail.slice(trail.indexOf(device)), device].map(each => `"${each.name}"`).join(' needs ');
  return new ConfigError(device.path, `devices need each other in a circle: ${round}`);
}
