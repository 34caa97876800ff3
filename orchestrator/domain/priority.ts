/** Who goes first among those that wait for the same model. */
export const priorities = ['low', 'normal', 'high'] as const

export type Priority = (typeof priorities)[number]

/** The lower one: what a request asks for and the most that it may have. */
export function lowerPriority(asked: Priority, most: Priority): Priority {
  return priorities.indexOf(asked) < priorities.indexOf(most) ? asked : most
}
