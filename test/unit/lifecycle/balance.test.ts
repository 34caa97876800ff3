import { expect, it } from 'vitest'
import { leastOutstanding } from '../../../orchestrator/lifecycle/balance.ts'
import { newModuleState, newReplica } from '../../../orchestrator/lifecycle/state.ts'
import { testDefinition } from '../../support/definitions.ts'

it('beyond eight replicas the better of two drawn by chance is taken', () => {
  const state = newModuleState(testDefinition(), 'enabled')
  for (let index = 0; index < 12; index += 1) {
    const replica = newReplica(`mod-${index}`, 1, 'spec-1', 0)
    replica.inflight = index
    state.replicas.set(replica.id, replica)
  }
  const looked = new Set<string>()
  const chosen = leastOutstanding(state, {
    hasRoom: () => true,
    outstanding: (replica) => {
      looked.add(replica.id)
      return replica.inflight
    },
    turn: 0,
    random: 0.5,
  })
  expect(looked.size).toBe(2)
  expect(chosen?.id).toBe([...looked].sort((a, b) => Number(a.slice(4)) - Number(b.slice(4)))[0])
})
