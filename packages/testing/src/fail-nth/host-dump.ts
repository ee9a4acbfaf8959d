/** Places in memory: they depend on what was there before. */
const PLACES = new Set(['address', 'rootFrame', 'ssptptr']);

/** A simulated host's dump without places: for `leftovers`. */
export function withoutPlaces(dump: Record<string, unknown>): Record<string, unknown> {
  const text = JSON.stringify(dump, (key, value: unknown) => (PLACES.has(key) ? undefined : value));
  return JSON.parse(text) as Record<string, unknown>;
}

/**
 * And without the pages of the kernel's tables: for `dump`. Those may stay until the function or the domain goes for which they are, however little is
 * in them.
 */
export function withoutTables(dump: Record<string, unknown>): Record<string, unknown> {
  const { frames, kernelPages, ...held } = withoutPlaces(dump);
  return { ...held, frames: Number(frames) - Number(kernelPages) };
}

/** Without what a process wrote into a device's configuration space: that is the device's own, and stays. For `fuzzHost`. */
export function withoutBusMaster(dump: Record<string, unknown>): Record<string, unknown> {
  const devices = Object.entries(dump['devices'] as Record<string, object>);
  return { ...dump, devices: Object.fromEntries(devices.map(([bdf, state]) => [bdf, { ...state, busMaster: false }])) };
}
