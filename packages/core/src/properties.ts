/** Typed options as in QEMU: declared once, parsed from option strings and from objects alike. */
export { didYouMean } from './properties/did-you-mean.js';
export * from './properties/option-string.js';
export { bdf, bool, choice, integer, required, size, slot, string } from './properties/property.js';
export type { IntegerLimits, Property, SizeLimits } from './properties/property.js';
export * from './properties/schema.js';
