/** What the adapters do where pages are only rendered: there is no `document`, and nobody may be asked. */

import { Suspense } from "react";
import { renderToPipeableStream, renderToString } from "react-dom/server";
import { expect, test } from "vitest";
import { createSSRApp, defineComponent, h } from "vue";
import { renderToString as renderVue } from "vue/server-renderer";
import { CoatroomProvider, RequireSession, useSession, useUser } from "../src/react.js";
import { coatroomPlugin, useSession as useVueSession, useUser as useVueUser } from "../src/vue.js";
import { FakeCoatroom, signedIn } from "./fake_coatroom.js";

const Status = () => <>{`${useSession().status} ${useUser()?.name ?? "nobody"}`}</>;

test("react renders nobody, asks nobody and subscribes to nothing", () => {
  const client = new FakeCoatroom(signedIn());
  const html = renderToString(
    <CoatroomProvider client={client}>
      <Status />
      <RequireSession signIn="auto" pending={<p>one moment</p>}>
        orders
      </RequireSession>
    </CoatroomProvider>,
  );
  expect(html).toBe("unknown nobody<p>one moment</p>");
  expect(client.calls).toEqual([]);
  expect(client.listeners.size).toBe(0);
});

test("a stream of react does not wait for a session that never comes", async () => {
  const client = new FakeCoatroom(signedIn());
  await new Promise<void>((resolve, reject) => {
    renderToPipeableStream(
      <CoatroomProvider client={client}>
        <Suspense fallback="loading">
          <RequireSession>orders</RequireSession>
        </Suspense>
      </CoatroomProvider>,
      { onAllReady: resolve, onError: reject },
    );
  });
  expect(client.calls).toEqual([]);
});

test("vue renders nobody, asks nobody and subscribes to nothing", async () => {
  const client = new FakeCoatroom(signedIn());
  const page = defineComponent(() => {
    const session = useVueSession();
    const user = useVueUser();
    return () => h("p", `${session.value.status} ${user.value?.name ?? "nobody"}`);
  });
  const html = await renderVue(createSSRApp(page).use(coatroomPlugin(client)));
  expect(html).toBe("<p>unknown nobody</p>");
  expect(client.calls).toEqual([]);
  expect(client.listeners.size).toBe(0);
});
