/** The first number whose factorial is a multiple of 2^32. */
const VANISHES = 34;

/** The low 32 bits of the factorial of an unsigned number. */
export function factorial(number: number): number {
  if (number >= VANISHES) return 0;
  let product = 1;
  for (let factor = 2; factor <= number; factor++) product = Math.imul(product, factor);
  return product >>> 0;
}
