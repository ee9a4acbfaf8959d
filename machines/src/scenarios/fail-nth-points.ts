/** How many points of failure each scenario has at least: fewer mean that something is not asked, or not counted, any more. */
export const MINIMUM_POINTS: Readonly<Record<string, number>> = {};
