/**
 * ts-node's module hooks, which run in a thread of their own. Loaded here so that what ts-node uses of an older Node.js does not
 * become a warning on a person's terminal (DEP0180 from Node 22 on).
 */
process.noDeprecation = true;
const { load, resolve } = (await import('ts-node/esm' as string)) as { load: unknown; resolve: unknown };

export { load, resolve };
