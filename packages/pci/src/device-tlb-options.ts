/** Options of functions with a device TLB, under the same names wherever there is one. */
import { bool, ConfigError, integer, type Schema } from '@remora/core';

const LONGEST_LATENCY_NS = 1_000_000_000_000;

/** `pri` says what waits for absent pages. To be used with needsDeviceTlb. */
export function deviceTlbProperties(pri: string) {
  return {
    ats: bool(false, 'a device TLB (ATS): translations are asked for and kept'),
    pri: bool(false, `page requests (PRI): ${pri}; needs \`ats\``),
    'x-invalidate-latency': integer(
      { min: 0, max: LONGEST_LATENCY_NS },
      0,
      'nanoseconds of virtual time until an invalidation of the device TLB is done and completed; needs `ats`',
    ),
  };
}

/** The schema, with a ConfigError for what is asked of a device TLB that there is not. */
export function needsDeviceTlb<C extends { ats: boolean; pri: boolean; 'x-invalidate-latency': number }>(
  options: Schema<C>,
): Schema<C> {
  return {
    ...options,
    parse(path, input) {
      const config = options.parse(path, input);
      for (const option of ['pri', 'x-invalidate-latency'] as const) {
        if (config[option] && !config.ats) throw new ConfigError(`${path}.${option}`, 'needs a device TLB: set ats=on');
      }
      return config;
    },
  };
}
