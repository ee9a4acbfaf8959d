/** Kinds of request to a unit. The first three are PCIe's address types, as FRCD.AT has them. */
export const RequestType = { UNTRANSLATED: 0, TRANSLATION: 1, TRANSLATED: 2, PAGE_REQUEST: 3 } as const;
