/** Somebody who asks for a model, where the test does not care who. */
export const asker = { caller: 'address:127.0.0.1', priority: 'normal' } as const
