declare const identified: unique symbol;

/** A service identifier that remembers what it identifies. */
export type Token<T> = symbol & { readonly [identified]?: T };

/** A new token; `name` appears in error messages. */
export function token<T>(name: string): Token<T> {
  return Symbol(name) as Token<T>;
}
