// @vitest-environment happy-dom
/** `coatroom/react` on the real client, with two tabs of one browser and a scripted agent. */

import { act, StrictMode } from "react";
import { createRoot } from "react-dom/client";
import { beforeEach, expect, test, vi } from "vitest";
import { CoatroomProvider, RequireSession, useUser } from "../src/react.js";
import type { Coatroom } from "../src/types.js";
import { FakeAgent } from "./agent.js";
import { Browser } from "./browser.js";

beforeEach(() => {
  Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });
  sessionStorage.clear();
  localStorage.clear();
});

const Name = () => <>{useUser()?.name}</>;

async function show(client: Coatroom) {
  const container = document.createElement("div");
  const root = createRoot(container);
  await act(async () =>
    root.render(
      <StrictMode>
        <CoatroomProvider client={client}>
          <RequireSession signIn="auto" pending="one moment">
            <Name />
          </RequireSession>
        </CoatroomProvider>
      </StrictMode>,
    ),
  );
  return { container, unmount: () => act(async () => root.unmount()) };
}

const until = (condition: () => void) => act(async () => vi.waitFor(condition));

test("a tab opens with the session, and closes when another tab signs out", async () => {
  const agent = new FakeAgent();
  const browser = new Browser(agent);
  agent.signIn(browser);
  const here = browser.open();
  const page = await show(here.client);
  await until(() => expect(page.container.textContent).toBe("Alice"));
  expect(agent.log).toEqual(["GET /auth/session"]);

  const there = browser.open();
  await there.client.session();
  there.client.signOut();
  await until(() => expect(page.container.textContent).toBe("Sign in"));
  expect(here.left).toEqual([]);
  await page.unmount();
  for (const { client } of [here, there]) client.close();
});

test("a tab with nobody signed in leaves for the provider once, with its page as the way back", async () => {
  const agent = new FakeAgent();
  const tab = new Browser(agent).open();
  const page = await show(tab.client);
  await until(() => expect(tab.left).toHaveLength(1));
  expect(page.container.textContent).toBe("one moment");
  expect(agent.count("POST /auth/login/start")).toBe(1);
  expect(agent.calls.at(-1)?.body).toContain(encodeURIComponent("/page?x=1#top"));
  await page.unmount();
  tab.client.close();
});
